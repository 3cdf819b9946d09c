"""A session: one caller's connection. Calls come in, responses and resumed transactions go out.

Law: a wrong call is answered on that call, and costs nobody else anything. Only where framing
is lost does the connection end, after one error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from hacd import log, rpc
from hacd.channel import Channel
from hacd.errors import (
    BAD_REQUEST,
    TOO_LARGE,
    UNKNOWN_METHOD,
    BadRequest,
    FrameTooLarge,
    ProtocolError,
    Refused,
    shown,
)
from hacd.front import methods
from hacd.front.access import is_over
from hacd.front.long_bodies import LongBodies
from hacd.front.owner import Owner, Peer
from hacd.front.peers.later import Later
from hacd.front.rota import Postponed, Unanswered
from hacd.front.routing.transaction import Caller, RoutedTransaction
from hacd.outcome import ABORTED, Outcome, appendix
from hacd.query import parse

if TYPE_CHECKING:
    from hacd.front.front import Front
    from hacd.front.transactions import Transaction

# What one caller gets carried out at one turn of the loop, so that the others get theirs: a query
# costs 1, any other call (and any refusal, with its text) COST unless `methods.COSTS` says more.
BUDGET = 256
COST = 4

#: calls of one caller that other fronts are asked for at a time; what follows them waits
ASKED = 64

_RESUME = rpc.notification_head("resume")


class Session:
    """One caller. `transactions` holds those of his that are in flight: suspended ones by the
    msgid of their call, unsuspended ones by their id, negative; `runs` his calls of routes, and those that
    other fronts are asked for, by msgid; `routed` the queries of the routes that he entered, by id."""

    inside = False
    #: it is past the bounds (`reserve.py`)
    reserved = False

    def __init__(self, front: Front, channel: Channel, peer: Peer) -> None:
        self.front = front
        self.peer = peer
        self.transactions: dict[int, Transaction] = {}
        self.runs: dict[int, RoutedTransaction | Later] = {}
        self.routed: dict[int, Transaction] = {}
        self.long_bodies = LongBodies(channel, front.borrowers)
        self.into = self.long_bodies.into  # here as well: each query asks for it
        self._rest: Iterator[Any] | None = None  # calls that wait for this caller's next turn
        self._break: ProtocolError | None = None  # what broke the stream behind those
        self._asked = 0  # calls that other fronts are asked for
        self._held_up = False  # until one of them is answered
        self.channel = channel
        channel.on_messages = self._messages
        channel.on_broken = self._broken
        channel.on_closed = self._closed

    def _messages(self, messages: list[Any]) -> None:
        if self._rest is not None:
            self._rest = chain(self._rest, messages)  # the end of a stream is read although it is paused
            return
        self.front.read_clock()
        self._work(iter(messages))

    def _work(self, calls: Iterator[Any]) -> None:
        """Carry calls out, as far as BUDGET goes; the rest waits until the others had their turn."""
        budget = BUDGET
        message = None
        try:
            for message in calls:
                if type(message) is list and len(message) == 4 and message[0] == rpc.REQUEST:
                    budget -= self._request(message[1], message[2], message[3])
                else:
                    budget -= COST
                    self._not_a_request(message)
                if self.channel.deaf:
                    return
                if budget <= 0:
                    self._later(calls, self.front.rota.later)
                    return
        except Unanswered:
            self._later(chain((message,), calls), self._when_answered)
        except Postponed:
            self._later(chain((message,), calls), self.front.rota.long_later)

    def _later(self, calls: Iterator[Any], wait: Callable[[Callable[[], None]], None]) -> None:
        """No more is read of this caller until `catch_up` is through with `calls`."""
        self._rest = calls
        self.channel.pause()
        wait(self.catch_up)

    def catch_up(self) -> None:
        """It is this caller's turn again."""
        rest, self._rest = self._rest, None
        if rest is None or self.channel.deaf:
            return
        self.front.read_clock()
        self._work(rest)
        if self._waits() or self.channel.deaf:
            return
        if self._break is not None:
            broken, self._break = self._break, None  # its traceback leads back here
            self._broken(broken)
        else:
            self.channel.resume()

    def _waits(self) -> bool:
        return self._rest is not None

    def _request(self, msgid: Any, method: Any, params: Any) -> int:
        """Carry out one call; what it costs of the budget."""
        if type(msgid) is not int or not 0 <= msgid <= rpc.MSGID_MAX:
            self._broken(ProtocolError(f"msgid {shown(msgid)}: an integer of 32 bits would be right"))
            return COST
        try:
            if method == "query":
                self._query(msgid, params)
                return 1
            return self._call(msgid, method, params)
        except Refused as refusal:
            self._refuse(msgid, refusal)
            return COST

    def _query(self, msgid: int, params: Any) -> None:
        query = parse(params)
        if not query[3]:
            self._unsuspended(msgid, query)
        else:
            self._new(msgid)
            self.transactions[msgid] = self.front.suspend(self, msgid, query)

    def _new(self, msgid: int) -> None:
        """Raise BadRequest where a call of that number waits for its end."""
        if msgid in self.transactions or msgid in self.runs:
            raise BadRequest(f"msgid {msgid}: a call of that number is in flight on this connection")

    def _run(self, msgid: int | None, params: Any) -> None:
        """Enter one of the daemon's routes."""
        route, variables = methods.run(params)
        router = self.front.router
        if msgid is None:
            router.begin(router.run(self, None, route, variables), route)
            return
        self._new(msgid)
        tx = router.run(self, Caller(partial(self._ran, msgid), msgid), route, variables)
        self.runs[msgid] = tx
        router.begin(tx, route)

    def _ran(self, msgid: int, response: bytes) -> None:
        del self.runs[msgid]
        self.channel.send(response)

    def send(self, msgid: int | None, params: Any) -> None:
        """`http_async_send`: as a query, but never suspended."""
        self._unsuspended(msgid, parse(params))

    def _unsuspended(self, msgid: int | None, query: Any) -> None:
        transaction = self.front.suspend(self, None, query)
        self.transactions[-transaction.id] = transaction
        if msgid is not None:
            self.respond(msgid, {"id": self.front.public_id(transaction.id)})

    def _call(self, msgid: int, method: Any, params: Any) -> int:
        if method == "send":
            self.send(msgid, params)
            return 1
        if method == "run":
            self._run(msgid, params)
            return COST
        call = methods.METHODS.get(method) if type(method) is str else None
        if call is None:
            known = ", ".join(sorted(methods.NAMES))
            raise Refused(UNKNOWN_METHOD, f"method {shown(method)} is unknown; there are: {known}")
        if type(params) is not list:
            raise BadRequest(f"{method}: params: a list would be right")
        if self.front.peers is not None and method in methods.LATER:
            self._may_ask()
            self._new(msgid)
        if method in methods.COSTS:
            self.front.rota.take_long()
        result = call(self, params)
        if type(result) is Later:
            self._wait(msgid, result)
        else:
            self.respond(msgid, result)
        return methods.COSTS.get(method, COST)

    def _wait(self, msgid: int, later: Later) -> None:
        """Other fronts are asked: the call ends when they have answered."""
        self._asked_for(1)
        self.runs[msgid] = later
        later.then(partial(self._answered, msgid))

    def _may_ask(self) -> None:
        """Raise Unanswered where so many of his calls wait for other fronts that this one has to, too."""
        if self._asked >= ASKED:
            raise Unanswered

    def _asked_for(self, more: int) -> None:
        """Other fronts are asked for so many more of his calls."""
        self._asked += more
        if more < 0 and self._held_up:
            self._held_up = False
            self.front.rota.later(self.catch_up)

    def _when_answered(self, _go_on: Callable[[], None]) -> None:
        self._held_up = True

    def _answered(self, msgid: int, result: Any, refusal: Refused | None) -> None:
        rota = self.front.rota
        if not rota.has_room():  # one answer of another front's can end thousands of calls
            rota.later(partial(self._answered, msgid, result, refusal))
            return
        self._asked_for(-1)
        self.runs.pop(msgid, None)
        if refusal is None:
            self.respond(msgid, result)
        else:
            self._refuse(msgid, refusal)

    def _not_a_request(self, message: Any) -> None:
        """A notification is a call that wants no response; anything else is no MessagePack-RPC."""
        if type(message) is not list or len(message) != 3 or message[0] != rpc.NOTIFICATION:
            what = "an array" if type(message) is list else f"a {type(message).__name__}"
            self._broken(ProtocolError(f"not MessagePack-RPC: {what} where [0, msgid, method, params] would be right"))
            return
        _, method, params = message
        try:
            if method in ("send", "query"):
                self.send(None, params)
            elif method == "run":
                self._run(None, params)
            elif method == "cancel" and type(params) is list:
                self._cancel(params)
            elif method == "returned" and type(params) is list:
                self.long_bodies.returned(params)
            elif method == "hello" and type(params) is list:
                methods.hello(self, params)
        except Refused as refusal:
            self.front.statistics.refuse(refusal)
            log.debug("notification of pid %d refused: %s", self.peer.pid, refusal)

    def _cancel(self, params: list[Any]) -> None:
        """It wants no response; what other fronts are asked for counts all the same."""
        self._may_ask()
        result = methods.cancel(self, params)
        if type(result) is Later:
            self._asked_for(1)
            result.then(lambda _result, _refusal: self._asked_for(-1))

    def respond(self, msgid: int, result: Any) -> None:
        """End a call with its result."""
        self.channel.send(rpc.response(msgid, None, result))

    def _refuse(self, msgid: int | None, refusal: Refused) -> None:
        self.front.statistics.refuse(refusal)
        self.channel.send(rpc.response(msgid, refusal.as_wire(), None))

    def resume(self, transaction: Transaction, outcome: Outcome) -> None:
        """`transaction` comes back: as the response of its call, or, if it was not suspended, to whoever takes that."""
        msgid = transaction.msgid
        if msgid is None:
            del self.transactions[-transaction.id]
            self.front.deliver(transaction, outcome, self)
            return
        del self.transactions[msgid]
        self._give(rpc.response_head(msgid), transaction, outcome)

    @property
    def here(self) -> bool:
        """Whether he takes replies: he has not gone."""
        return not self.channel.deaf

    def take(self, transaction: Transaction, outcome: Outcome) -> bool:
        """The reply of an unsuspended query is this caller's; False if he has gone."""
        if self.channel.deaf:
            return False
        self._give(_RESUME, transaction, outcome)
        return True

    def take_packed(self, outcome: bytes, tail: bytes) -> bool:
        """The same of one that is packed, with the tail that belongs to it."""
        if self.channel.deaf:
            return False
        self.channel.send(_RESUME, outcome, tail)
        return True

    def _give(self, head: bytes, transaction: Transaction, outcome: Outcome) -> None:
        tail = appendix(self.front.public_id(transaction.id), transaction.route, transaction.xdata)
        if isinstance(outcome, bytes):
            self.channel.send(head, outcome, tail)
        else:
            self.long_bodies.give(head, outcome, tail)
            self.into = self.long_bodies.into

    def take_as(self, descriptors: bool, arenas: bool) -> None:
        """How he takes long bodies from now on."""
        self.long_bodies.take_as(descriptors, arenas)
        self.into = self.long_bodies.into

    def may_take_from(self, sender: Owner) -> bool:
        """A caller takes what its own user sent; root and the daemon's own user take everybody's."""
        return not self.channel.deaf and is_over(self.peer.uid, sender.peer.uid)

    def _broken(self, error: ProtocolError) -> None:
        """Framing is lost: one error, and the connection ends. What was whole before comes first."""
        if self._rest is not None or self._asked:
            self._break = error
            if self._rest is None:
                self._later(iter(()), self._when_answered)
            return
        msgid = error.msgid if isinstance(error, FrameTooLarge) else None
        code = TOO_LARGE if isinstance(error, FrameTooLarge) else BAD_REQUEST
        to = self.front.complaints
        to.warning("caller uid %d pid %d: %s; connection closed", self.peer.uid, self.peer.pid, error)
        self._refuse(msgid, Refused(code, str(error)))
        # At once: their outcomes are the last that goes over this connection.
        self.front.abort_each(self._suspended(), ABORTED, "cancelled: its connection is out of step")
        self.channel.close_when_sent()

    def _closed(self, why: str) -> None:
        if self.channel.cut:
            self.front.statistics.cut += 1
            to = self.front.complaints
            to.warning("caller uid %d pid %d %s; connection cut", self.peer.uid, self.peer.pid, why)
        self.front.forget(self)
        self.long_bodies.gone()
        self._rest = self._break = None
        self.front.abandon(self._suspended(), "cancelled: its caller went away")

    def _suspended(self) -> list[int]:
        """The queries that nobody waits for any more, but for those of routes, which are told here."""
        for tx in list(self.runs.values()):
            tx.caller_gone()
        self.runs.clear()
        return [waiting.id for key, waiting in self.transactions.items() if key >= 0]
