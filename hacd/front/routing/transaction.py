"""A transaction of the daemon's own routes: entered by `run`, suspended with each query, resumed with its reply.

Law: it ends once, when none of its routes runs or waits any more, and its caller gets one answer.
Whatever a route raises ends its transaction, and nothing else.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hacd import log, rpc
from hacd.arena import COMMON
from hacd.errors import BAD_REQUEST, INTERNAL, UNKNOWN_ROUTE, BadRequest, Refused
from hacd.expansion import expand
from hacd.front.owner import Peer
from hacd.front.routing.awaiting import Pending, Task
from hacd.front.routing.http_req import HttpReq
from hacd.front.routing.scope import RouteScope
from hacd.front.routing.script import forget_frames, told, where
from hacd.front.routing.tx import Tx
from hacd.front.transactions import Transaction
from hacd.outcome import ABORTED, Outcome
from hacd.query import Query, parse
from hacd.reply import Reply

if TYPE_CHECKING:
    from hacd.front.owner import Sender
    from hacd.front.routing.router import Router

#: what a suspended query of a route has where a caller's has the number of his call
NO_MSGID = 0


class Caller:
    """Who called `run`, and waits. `answer` is used once at the most."""

    def __init__(self, answer: Callable[[bytes], None], msgid: int) -> None:
        self.answer = answer
        self.msgid = msgid


class Said(int):
    """What the manual's functions return. A route that returns one of these has not replied with it."""


SUSPENDED, SENT, REFUSED = Said(0), Said(1), Said(-1)


class RoutedTransaction:
    """The daemon's side of a transaction in its routes, and the owner of the queries that it waits for.

    `entrant`: whose routes these are; his bound holds for the queries that they send.
    """

    #: it may go on while the daemon drains
    inside = True
    into = COMMON

    def __init__(self, router: Router, entrant: Sender, variables: dict[str, Any], caller: Caller | None) -> None:
        self.peer: Peer = entrant.peer
        self.routed = entrant.routed
        self.transactions = entrant.routed
        self.vars = variables
        self.http_req = HttpReq()
        self.tx: Tx | None = Tx(self)  # None once it has ended: its routes may keep it, and what it shows
        self.transactional = True
        self.reply: Reply | None = None
        self.refusal: str | None = None  # why the last query was
        self.sent_id: str | None = None  # of the last query that was not
        self.route = ""  # the last that it entered
        self.ended = False
        self.bucket: set[Any] = set()  # of its deadline
        self.held = 0  # bytes of the account: its variables, and the reply that it sees
        self._router = router
        self._caller = caller
        self._waiting: dict[int, Pending | str] = {}  # by id of a query: what it comes back to
        self._suspended = False  # in a query of `http_async_query`
        self._tasks: set[Task] = set()
        self._depth = 0  # of its code that runs now, within itself

    @property
    def id_in_log(self) -> str:
        """The query that its log lines are about: the last sent, else the one that it resumed with."""
        return self.sent_id or (self.reply.id if self.reply is not None else "")

    @property
    def scope(self) -> RouteScope:
        """What pseudo variables stand for. Made when asked for: to keep one would be a cycle."""
        return RouteScope(self)

    # -- queries

    def send(self, url: str, route: str, options: dict[str, Any]) -> Said:
        """The manual's functions: a query that suspends this transaction, or not, or is refused."""
        self.refusal = self.sent_id = None
        front = self._router.front
        try:
            query = self._parsed(url, route, options)
            if query[3] and self.transactional:
                self._suspend_in_route(query)
                return SUSPENDED
            self.sent_id = front.public_id(Detached(self._router, self).send(query).id)
        except Refused as refusal:
            self.refusal = refusal.message
            front.statistics.refuse(refusal)
            return REFUSED
        return SENT

    def query(self, url: str, route: str, options: dict[str, Any]) -> Pending:
        """Send a query; its reply can be awaited. Raises Refused."""
        pending = Pending(self._take)
        self._suspend(self._parsed(url, route, options), pending)
        return pending

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
        url = expand(url, options, self.scope)
        if body is not None:
            options["body"] = body
        return parse([url, {**options, "route": route}])

    def _suspend(self, query: Query, comes_back_to: Pending | str) -> Transaction:
        if self.ended:
            raise _over()
        transaction = self._router.front.suspend(self, NO_MSGID, query)
        self.transactions[transaction.id] = transaction
        self._waiting[transaction.id] = comes_back_to
        return transaction

    def resume(self, transaction: Transaction, outcome: Outcome) -> None:
        """A query of this transaction comes back: the route that it named goes on."""
        del self.transactions[transaction.id]
        comes_back_to = self._waiting.pop(transaction.id)
        reply = self._router.reply(transaction, outcome)
        if self.ended:
            if isinstance(comes_back_to, Pending):
                comes_back_to.settle(error=_over())
            return
        if isinstance(comes_back_to, Pending):
            self._guarded(lambda: comes_back_to.settle(reply))
        else:
            self._suspended = False
            self._take(reply)
            self._enter(comes_back_to)
        self._end_if_done()

    def _take(self, reply: Reply) -> None:
        """From here on, the reply's pseudo variables are those of this one."""
        if not self.ended:
            self._router.hold(self, _size(reply) - _size(self.reply))
        self.reply, self.refusal, self.sent_id = reply, None, None

    # -- routes run

    def begin(self, route: str, reply: Reply | None = None) -> None:
        """Enter the first route; with a reply, it is one that nothing was suspended for."""
        if reply is not None:
            self.transactional = False
            self._take(reply)
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
        returned = function(self.tx)
        if inspect.iscoroutine(returned):
            ended = self.pending(returned)
            ended.then(self._returned)
        else:
            self._reply_with(returned)

    def _returned(self, ended: Pending) -> None:
        if self.ended:
            return
        if ended.error is not None:
            self._fail(ended.error)
        else:
            self._guarded(lambda: self._reply_with(ended.result))

    def _reply_with(self, returned: Any) -> None:
        """What a route returns is its reply, but for None and what the manual's functions return."""
        if returned is not None and type(returned) is not Said:
            self.answer(returned)

    def pending(self, awaitable: Any) -> Pending:
        """What can be awaited, as one. Raises TypeError for what cannot, in a route."""
        if isinstance(awaitable, Pending):
            return awaitable
        if not inspect.iscoroutine(awaitable):
            what = type(awaitable).__name__
            raise TypeError(f"a {what} cannot be awaited here: tx.query(…) or a coroutine would be right")
        if self.ended:
            awaitable.close()
            raise _over()
        task = Task(awaitable, self._guarded)
        self._tasks.add(task)
        task.step()
        return task.ended

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a route's code. Whatever it raises ends this transaction; that it took long is logged."""
        front = self._router.front
        begun = front.read_clock()
        self._depth += 1
        try:
            step()
        except BaseException as error:  # noqa: BLE001
            self._fail(error)
        self._depth -= 1
        self._router.took(self.route, front.read_clock() - begun)
        self._end_if_done()

    # -- the end

    def answer(self, value: Any) -> int:
        """Give the caller of `run` what he waits for: 1, or -1 if nobody does. Raises TypeError."""
        caller = self._caller
        if caller is None:
            return -1
        try:
            data = rpc.response_apart(caller.msgid, value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TypeError(f"the reply cannot travel: {error}") from None
        self._caller = None
        caller.answer(data)
        return 1

    def _fail(self, error: BaseException) -> None:
        say = log.about(self.id_in_log, self.route).error
        say("route %s: %s: %s", self.route, where(error, self._router.path), told(error))
        forget_frames(error)
        self.end(Refused(INTERNAL, f"route {self.route} raised {type(error).__name__}; the daemon's log has more"))

    def _end_if_done(self) -> None:
        if self._depth or self.ended or self._waiting:
            return
        self._tasks = {task for task in self._tasks if not task.ended.done}
        if not self._tasks:
            self.end(None)

    def end(self, error: Refused | None) -> None:
        """It is over: what is still under way is called off, and who waits gets nil or `error`."""
        if self.ended:
            return
        self.ended = True
        caller, self._caller = self._caller, None  # what a route replies while it is closed comes too late
        self._router.ended(self)
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            # What a route does in its last `finally` is its own affair; it can send nothing any more.
            with contextlib.suppress(BaseException):
                task.close()
        self.call_off("its route has ended")
        for task in tasks:
            if not task.ended.done:
                task.ended.settle(error=_over())
        self.tx = self.reply = None
        if caller is not None:
            caller.answer(rpc.response(caller.msgid, error.as_wire() if error else None, None))

    def call_off(self, why: str) -> None:
        """End the queries that it waits for."""
        self._router.front.abort_each(list(self._waiting), ABORTED, f"cancelled: {why}")

    def caller_gone(self) -> None:
        """Nobody waits for its answer. Its queries are cancelled; what its routes make of that is theirs to say."""
        self._caller = None
        self.call_off("its caller went away")


def _size(reply: Reply | None) -> int:
    return 0 if reply is None else len(reply.rb)


def _over() -> Refused:
    return Refused(BAD_REQUEST, "the transaction has ended")


class Detached:
    """The owner of a query that a route sent and did not suspend: it outlives its transaction."""

    inside = True
    into = COMMON

    def __init__(self, router: Router, entrant: Sender | RoutedTransaction) -> None:
        self.peer = entrant.peer
        self.routed = self.transactions = entrant.routed
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

    @property
    def here(self) -> bool:
        """Replies come to routes, and not to transactions."""
        return False

    def take(self, _transaction: Transaction, _outcome: Outcome) -> bool:
        """Nobody is here to take a reply whose route nobody has."""
        return False

    def take_packed(self, _outcome: bytes, _tail: bytes) -> bool:
        """Nor when other fronts were asked."""
        return False
