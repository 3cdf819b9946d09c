"""What pseudo variables stand for in a route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hacd.expansion import QueryScope
from hacd.pseudovars import NAMES, Index, pick
from hacd.query import KEYS
from hacd.reply import ReplyScope

if TYPE_CHECKING:
    from hacd.front.routing.transaction import RoutedTransaction


class RouteScope:
    """The names of one transaction: the caller's `vars`, the next query's options, the reply that it resumes with."""

    __slots__ = ("_tx",)

    def __init__(self, tx: RoutedTransaction) -> None:
        self._tx = tx

    def pv(self, name: str, key: str | None, index: Index) -> Any:
        """The value, or None for null. Raises BadRequest for an `$http_req` key that there is not."""
        tx = self._tx
        if name not in NAMES:
            return pick([tx.vars.get(name)], index)
        if name == "http_req":
            return QueryScope({}, dict(tx.http_req), KEYS).pv(name, key, index)
        if name == "http_req_id" and tx.sent_id:
            return tx.sent_id
        if name == "http_err" and tx.refusal:
            return tx.refusal
        return ReplyScope(tx.http_reply).pv(name, key, index)
