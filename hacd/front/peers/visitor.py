"""Another front, as the one that it asks has it: a connection that the other dialled.

Law: what a caller there may see or do is judged here, by his uid, as if he had called here. What the other told of
itself holds as long as its connection. What it may say is judged at the door (`shapes`): nothing else is caught.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hacd import log, rpc
from hacd.channel import Channel
from hacd.errors import ProtocolError, Refused
from hacd.front.figures import figures
from hacd.front.methods import cancel_for, transactions_for
from hacd.front.owner import Peer
from hacd.front.peers.offer import claim
from hacd.front.peers.shapes import question_of
from hacd.words import PEER

if TYPE_CHECKING:
    from hacd.front.control import Change
    from hacd.front.peers.box import RemoteTaker
    from hacd.front.peers.peers import Peers


class _Stranger:
    """Who sent a query at another front, as the registry has to know him."""

    def __init__(self, uid: int) -> None:
        self.peer = Peer(0, uid, 0)


class Visitor:
    """Answers the front of that `number`."""

    def __init__(self, peers: Peers, channel: Channel, number: int) -> None:
        self.number = number
        self._peers = peers
        self._front = peers.front
        self._channel = channel
        self._takers: dict[int, RemoteTaker] = {}  # callers there who registered, by a number of the other's
        self._judged: Change | None = None  # a change of the settings, which the other may want to be made
        channel.on_messages = self._messages
        channel.on_broken = self._broken
        channel.on_closed = self._lost
        channel.send(rpc.notification(PEER, [peers.who()]))
        self._methods: dict[str, Callable[..., Any]] = {
            "figures": lambda: figures(self._front),
            "unfinished": lambda: peers.unfinished,
            "transactions": self._transactions,
            "cancel": self._cancel,
            "judge": self._judge,
            "change": self._change,
            "keep": self._keep,
            "take": self._take,
            "registered": self._registered,
            "left": self._has_left,
            "log": self._front.tail.add,
        }

    def _messages(self, messages: list[Any]) -> None:
        for message in messages:
            try:
                self._message(message)
            except ProtocolError as error:
                self._broken(error)
                return

    def _message(self, message: Any) -> None:
        msgid, method, params = question_of(message)
        if msgid is None:
            self._methods[method](*params)
            return
        try:
            result, error = self._methods[method](*params), None
        except Refused as refusal:
            result, error = None, refusal.as_wire()
        self._channel.send(rpc.pack_apart((rpc.RESPONSE, msgid, error, result)))

    # -- what callers there ask for

    def _transactions(self, uid: int) -> list[dict[str, Any]]:
        return transactions_for(self._front, Peer(0, uid, 0))

    def _cancel(self, id_: str, pid: int, uid: int) -> bool:
        return cancel_for(self._front, Peer(pid, uid, 0), id_)

    # -- changes of the settings

    def _judge(self, method: str, params: list[Any]) -> bool:
        """Whether it could be made. Raises Refused."""
        self._peers.changes.begin(self)
        try:
            self._judged = self._front.control.judge(method, params)
        except Refused:
            self._keep()
            raise
        return True

    def _change(self, who: str, version: int) -> bool:
        """Every front can: it is made."""
        change, self._judged = self._judged, None
        self._peers.changes.end(self)
        if change is not None:
            self._front.control.make(change, who, log.debug, version)
        return True

    def _keep(self) -> None:
        """It is not: all stays as it is."""
        self._judged = None
        self._peers.changes.end(self)

    # -- replies of unsuspended queries

    def _registered(self, number: int, uid: int, routes: list[str]) -> None:
        offers = self._peers.offers
        taker = self._takers.get(number)
        if taker is None:
            taker = self._takers[number] = offers.taker(self._peers.links[self.number], uid)
        offers.registered(taker, routes)

    def _has_left(self, number: int) -> None:
        taker = self._takers.pop(number, None)
        if taker is not None:
            self._peers.offers.left(taker)

    def _take(self, route: str, uid: int, outcome: bytes, tail: bytes) -> bool:
        """Give it to one who registered here. The other keeps it until this says so; `claim` has why that is once."""
        ticket = self._channel.take_descriptor()
        if ticket is None:
            raise ProtocolError("a reply without its ticket")
        try:
            return self._give(route, _Stranger(uid), outcome, tail, ticket)
        finally:
            os.close(ticket)

    def _give(self, route: str, sender: _Stranger, outcome: bytes, tail: bytes, ticket: int) -> bool:
        claimed = False
        while (taker := self._front.registry.choose(route, sender)) is not None:
            if not claimed and not claim(ticket):
                return False  # the other waits no longer
            claimed = True
            taker.take_packed(outcome, tail)
            # At once: whether he is still there, the write tells.
            taker.channel.flush()
            if not taker.channel.closed:
                return True
        return False

    # -- the end

    def _broken(self, error: ProtocolError) -> None:
        log.error("front %d sent what is no message: %s", self.number, error)
        self._channel.break_off(str(error))

    def _lost(self, why: str) -> None:
        log.debug("front %d asks no more (%s)", self.number, why)
        self._keep()
        for number in list(self._takers):
            self._has_left(number)
        self._peers.leaves(self)
