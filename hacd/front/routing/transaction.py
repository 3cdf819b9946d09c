"""A transaction of the daemon's own routes: entered by `run`, suspended with each query, resumed with its reply.

Law: it ends once, when none of its routes runs or waits any more, and its caller gets one answer.
An exception in a route ends its transaction, and nothing else.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hacd import log, rpc
from hacd.errors import BAD_REQUEST, INTERNAL, UNKNOWN_ROUTE, BadRequest, Refused
from hacd.expansion import expand
from hacd.front.owner import Peer
from hacd.front.routing.awaiting import Pending, Task, gather
from hacd.front.routing.http_req import HttpReq
from hacd.front.routing.scope import RouteScope
from hacd.front.routing.script import told, where
from hacd.front.transactions import Transaction
from hacd.outcome import ABORTED, Outcome, drop
from hacd.pseudovars import parse as parse_template
from hacd.pseudovars import value
from hacd.query import Query, parse
from hacd.reply import Reply

if TYPE_CHECKING:
    from hacd.front.routing.router import Router

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

#: what a suspended query of a route has where a caller's has the number of his call
NO_MSGID = 0


class Caller:
    """Who called `run`, and waits. `answer` is used once at the most."""

    def __init__(self, answer: Callable[[bytes], None], msgid: int) -> None:
        self.answer = answer
        self.msgid = msgid


class RoutedTransaction:
    """What a route gets as `tx` (`hacd.routes.Tx` says what it may do with it), and an owner of its queries."""

    #: it may go on while the daemon drains
    inside = True

    def __init__(self, router: Router, peer: Peer, variables: dict[str, Any], caller: Caller | None) -> None:
        self.peer = peer
        self.vars = variables
        self.http_req = HttpReq()
        self.http_reply: Reply | None = None
        self.transactions: dict[int, Transaction] = {}
        self.transactional = True  # not where a reply came that nothing was suspended for
        self.ended = False
        self.bucket = 0  # of its deadline
        self.route = ""  # the last that it entered
        self.refusal: str | None = None  # why the last query was
        self.sent_id: str | None = None  # of the last query that was not
        self._router = router
        self._caller = caller
        self._waiting: dict[int, Pending | str] = {}  # by id of a query: what it comes back to
        self._suspended = False  # in a query of `http_async_query`
        self._tasks: set[Task] = set()
        self._scope = RouteScope(self)
        self._detached: Detached | None = None

    # -- what a route does

    def http_async_query(self, url: str, route: str) -> int:
        """The manual's function: 0 suspended, 1 sent, -1 refused (`$http_err`)."""
        return self._try(url, route, self.http_req.take())

    def http_async_send(self, url: str, route: str) -> int:
        """The same, and never suspends: 1 or -1."""
        return self._try(url, route, {**self.http_req.take(), "suspend": 0})

    def http_async_send_xdata(self, url: str, route: str, xdata: Any) -> int:
        """The same; `xdata` comes back with the reply."""
        return self._try(url, route, {**self.http_req.take(), "suspend": 0, "xdata": xdata})

    def query(self, url: str, route: str = "", **options: Any) -> Pending:
        """Send a query; its reply can be awaited. Raises Refused."""
        pending = Pending(self._take)
        self._suspend(self._parsed(url, route, options), pending)
        return pending

    def gather(self, *awaitables: Any) -> Pending:
        """All at once. Raises TypeError for what cannot be awaited in a route."""
        return gather([self._pending(awaitable) for awaitable in awaitables])

    def pv(self, text: str) -> Any:
        """The value of a pseudo variable. Raises BadRequest for one that is wrong."""
        return value(text, self._scope)

    def log(self, text: str, level: str = "info") -> None:
        """A line for the log, with its pseudo variables expanded. Raises ValueError for a level that there is not."""
        number = LEVELS.get(level)
        if number is None:
            raise ValueError(f"level {level!r} is wrong: one of {', '.join(LEVELS)} would be right")
        if "$" in text:
            text = parse_template(text, strict=False).expand(self._scope, null="<null>")
        log.about("", self.route).log(number, "route %s: %s", self.route, text.rstrip("\n"))

    def reply(self, value: Any) -> int:
        """Answer the caller of `run`: 1, or -1 if nobody waits. Raises TypeError for what cannot travel."""
        caller = self._caller
        if caller is None:
            return -1
        try:
            data = rpc.response(caller.msgid, None, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"the reply cannot travel: {error}") from None
        self._caller = None
        caller.answer(data)
        return 1

    # -- queries

    def _try(self, url: str, route: str, options: dict[str, Any]) -> int:
        self.refusal = self.sent_id = None
        front = self._router.front
        try:
            query = self._parsed(url, route, options)
            if query[3] and self.transactional:
                self._suspend_in_route(query)
                return 0
            self._detached = self._detached or Detached(self._router, self.peer)
            self.sent_id = front.public_id(self._detached.send(query).id)
        except Refused as refusal:
            self.refusal = refusal.message
            front.statistics.refuse(refusal)
            return -1
        return 1

    def _suspend_in_route(self, query: Query) -> None:
        if self._suspended:
            raise Refused(BAD_REQUEST, "the transaction is suspended: return once http_async_query gave 0")
        if query[2] not in self._router.table:
            raise Refused(UNKNOWN_ROUTE, self._router.unknown(query[2]))
        self.sent_id = self._router.front.public_id(self._suspend(query, query[2]).id)
        self._suspended = True

    def _parsed(self, url: str, route: str, options: dict[str, Any]) -> Query:
        """The query with its texts expanded. Bytes are data, and stay as they are."""
        if "vars" in options:
            raise BadRequest("vars: tx.vars has them in a route")
        body = options.pop("body") if isinstance(options.get("body"), bytes) else None
        url = expand(url, options, self._scope)
        if body is not None:
            options["body"] = body
        return parse([url, {**options, "route": route}])

    def _suspend(self, query: Query, comes_back_to: Pending | str) -> Transaction:
        if self.ended:
            raise Refused(BAD_REQUEST, "the transaction has ended")
        transaction = self._router.front.suspend(self, NO_MSGID, query)
        self.transactions[transaction.id] = transaction
        self._waiting[transaction.id] = comes_back_to
        return transaction

    def resume(self, transaction: Transaction, outcome: Outcome) -> None:
        """A query of this transaction comes back: the route that it named goes on."""
        del self.transactions[transaction.id]
        comes_back_to = self._waiting.pop(transaction.id)
        if self.ended:
            drop(outcome)
            return
        reply = self._router.reply(transaction, outcome)
        if isinstance(comes_back_to, Pending):
            comes_back_to.settle(reply)
        else:
            self._suspended = False
            self._take(reply)
            self._enter(comes_back_to)
        self._end_if_done()

    def _take(self, reply: Reply) -> None:
        """From here on, the reply's pseudo variables are those of this one."""
        self.http_reply, self.refusal, self.sent_id = reply, None, None

    # -- routes run

    def begin(self, route: str, reply: Reply | None = None) -> None:
        """Enter the first route; with a reply, it is one that nothing was suspended for."""
        if reply is not None:
            self.transactional = False
            self.http_reply = reply
        self._enter(route)
        self._end_if_done()

    def _enter(self, route: str) -> None:
        self.route = route
        function = self._router.table.get(route)
        if function is None:
            self.end(Refused(UNKNOWN_ROUTE, self._router.unknown(route)))
        else:
            self._guarded(lambda: self._call(function))

    def _call(self, function: Callable[[Any], Any]) -> None:
        returned = function(self)
        if inspect.iscoroutine(returned):
            task = self._task(returned)
            task.ended.then(lambda: self._returned(task))
        elif returned is not None and not isinstance(returned, int):
            self.reply(returned)

    def _returned(self, task: Task) -> None:
        if self.ended:
            return
        if task.ended.error is not None:
            self._fail(task.ended.error)
        elif task.ended.result is not None:
            self._guarded(lambda: self._answer(task.ended.result))

    def _answer(self, result: Any) -> None:
        self.reply(result)

    def _task(self, coroutine: Any) -> Task:
        task = Task(coroutine, self._guarded)
        self._tasks.add(task)
        task.step()
        return task

    def _pending(self, awaitable: Any) -> Pending:
        if isinstance(awaitable, Pending):
            return awaitable
        if inspect.iscoroutine(awaitable):
            return self._task(awaitable).ended
        raise TypeError(
            f"a {type(awaitable).__name__} cannot be awaited here: tx.query(…) or a coroutine would be right"
        )

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a route's code. What it raises ends this transaction; that it took long is logged."""
        front = self._router.front
        begun = front.read_clock()
        try:
            step()
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(error)
        self._router.took(self.route, front.read_clock() - begun)

    # -- the end

    def _fail(self, error: BaseException) -> None:
        log.about("", self.route).error("route %s: %s: %s", self.route, where(error, self._router.path), told(error))
        self.end(Refused(INTERNAL, f"route {self.route} raised {type(error).__name__}; the daemon's log has more"))

    def _end_if_done(self) -> None:
        self._tasks = {task for task in self._tasks if not task.ended.done}
        if not self._waiting and not self._tasks and not self.ended:
            self.end(None)

    def end(self, error: Refused | None) -> None:
        """It is over: what is still under way is called off, and who waits gets nil or `error`."""
        if self.ended:
            return
        self.ended = True
        self._router.ended(self)
        for task in self._tasks:
            with contextlib.suppress(Exception):  # what a route does in its last `finally` is its own affair
                task.coroutine.close()
        self._tasks.clear()
        self.call_off("its route has ended")
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.answer(rpc.response(caller.msgid, error.as_wire() if error else None, None))

    def call_off(self, why: str) -> None:
        """End the queries that it waits for."""
        for transaction in list(self.transactions.values()):
            self._router.front.abort(transaction, ABORTED, f"cancelled: {why}")

    def caller_gone(self) -> None:
        """Nobody waits for its answer. Its queries are cancelled; what its routes make of that is theirs to say."""
        self._caller = None
        self.call_off("its caller went away")


class Detached:
    """The owner of queries that a route sent and did not suspend: they outlive its transaction."""

    inside = True

    def __init__(self, router: Router, peer: Peer) -> None:
        self.peer = peer
        self.transactions: dict[int, Transaction] = {}
        self._router = router

    def send(self, query: Query) -> Transaction:
        """Send it. Raises Refused."""
        transaction = self._router.front.suspend(self, None, query)
        self.transactions[transaction.id] = transaction
        return transaction

    def resume(self, transaction: Transaction, outcome: Outcome) -> None:
        """It comes back, to whoever takes that route."""
        del self.transactions[transaction.id]
        self._router.front.deliver(transaction, outcome, self)

    def take(self, _transaction: Transaction, _outcome: Outcome) -> bool:
        """Nobody is here to take a reply whose route nobody has."""
        return False
