"""What pseudo variables stand for in a route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hacd.expansion import QueryScope
from hacd.log.entry import LINE_MAX
from hacd.pseudovars import NAMES, Index, Scope, pick
from hacd.query import KEYS
from hacd.reply import ReplyScope

if TYPE_CHECKING:
    from hacd.front.routing.transaction import RoutedTransaction


class RouteScope:
    """The names of one transaction: the caller's `vars`, the next query's options, the reply that it resumes with."""

    __slots__ = ("_transaction",)

    def __init__(self, transaction: RoutedTransaction) -> None:
        self._transaction = transaction

    def pv(self, name: str, key: str | None, index: Index) -> Any:
        """The value, or None for null. Raises BadRequest for an `$http_req` key that there is not."""
        transaction = self._transaction
        if name not in NAMES:
            return pick([transaction.vars.get(name)], index)
        if name == "http_req":
            return QueryScope({}, dict(transaction.http_req), KEYS).pv(name, key, index)
        if name == "http_req_id" and transaction.sent_id:
            return transaction.sent_id
        if name == "http_err" and transaction.refusal:
            return transaction.refusal
        return ReplyScope(transaction.reply).pv(name, key, index)


class InLog:
    """A scope for log lines: of a value that is longer than a line, the begin."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def pv(self, name: str, key: str | None, index: Index) -> Any:
        """The value, cut."""
        value = self._scope.pv(name, key, index)
        return value[: LINE_MAX + 1] if isinstance(value, str | bytes) else value
