"""What a route gets as `tx`: the names of `hacd.routes.Tx`, and nothing else that it could take hold of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hacd import log
from hacd.errors import BadRequest
from hacd.front.routing.awaiting import Pending, gather
from hacd.front.routing.scope import InLog
from hacd.pseudovars import parse as parse_template
from hacd.pseudovars import value

if TYPE_CHECKING:
    from hacd.front.routing.http_req import HttpReq
    from hacd.front.routing.transaction import RoutedTransaction
    from hacd.reply import Reply

LEVELS = ("debug", "info", "warning", "error")


class Tx:
    """One transaction, in the hands of its routes."""

    def __init__(self, transaction: RoutedTransaction) -> None:
        self._transaction = transaction

    @property
    def vars(self) -> dict[str, Any]:
        """What `run` was given, and what routes made of it."""
        return self._transaction.vars

    @vars.setter
    def vars(self, variables: dict[str, Any]) -> None:
        self._transaction.vars = variables

    @property
    def http_req(self) -> HttpReq:
        """Options of the next query."""
        return self._transaction.http_req

    @property
    def http_reply(self) -> Reply | None:
        """The reply in which this route resumes, or the one awaited last."""
        return self._transaction.reply

    @property
    def transactional(self) -> bool:
        """Whether there is a transaction to suspend: not where a reply came that nothing was suspended for."""
        return self._transaction.transactional

    def http_async_query(self, url: str, route: str) -> int:
        """The manual's function: 0 suspended, 1 sent, -1 refused (`$http_err`)."""
        return self._transaction.send(url, route, self.http_req.take())

    def http_async_send(self, url: str, route: str) -> int:
        """The same, and never suspends: 1 or -1."""
        return self._transaction.send(url, route, {**self.http_req.take(), "suspend": 0})

    def http_async_send_xdata(self, url: str, route: str, xdata: Any) -> int:
        """The same; `xdata` comes back with the reply."""
        return self._transaction.send(url, route, {**self.http_req.take(), "suspend": 0, "xdata": xdata})

    def query(self, url: str, route: str = "", **options: Any) -> Pending:
        """Send a query; its reply can be awaited. Raises Refused."""
        if options.get("suspend", 1) != 1:
            raise BadRequest("suspend: tx.query waits for its reply; tx.http_async_send does not")
        return self._transaction.query(url, route, options)

    def gather(self, *awaitables: Any) -> Pending:
        """All at once. Raises TypeError for what cannot be awaited in a route."""
        return gather([self._transaction.pending(awaitable) for awaitable in awaitables])

    def pv(self, text: str) -> Any:
        """The value of a pseudo variable. Raises BadRequest for one that is wrong."""
        return value(text, self._transaction.scope)

    def log(self, text: str, level: str = "info") -> None:
        """A line for the log, with its pseudo variables expanded. Raises ValueError for a level that there is not."""
        if level not in LEVELS:
            raise ValueError(f"level {level!r} is wrong: one of {', '.join(LEVELS)} would be right")
        transaction = self._transaction
        if "$" in text:
            text = parse_template(text, strict=False).expand(InLog(transaction.scope), null="<null>")
        say = getattr(log.about(transaction.id_in_log, transaction.route), level)
        say("route %s: %s", transaction.route, text.rstrip("\n"))

    def reply(self, value: Any) -> int:
        """Answer the caller of `run`: 1, or -1 if nobody waits. Raises TypeError for what cannot travel."""
        return self._transaction.answer(value)
