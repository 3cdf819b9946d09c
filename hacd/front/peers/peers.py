"""The other fronts of this daemon: who is there, and what is asked of all of them for a caller's call.

Law: a caller gets what is known. A front that hangs, or is being replaced, is left out, and the log says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from hacd import log
from hacd.channel import Channel
from hacd.errors import BUSY, ProtocolError, Refused
from hacd.flusher import Flusher
from hacd.front.figures import figures, merged
from hacd.front.methods import LISTED, cancel_for, transactions_for
from hacd.front.peers.changes import Changes
from hacd.front.peers.later import Later
from hacd.front.peers.link import ASKED, SILENT, PeerLink
from hacd.front.peers.offers import Offers, registrations
from hacd.front.peers.parting import Parting
from hacd.front.peers.questions import Answer
from hacd.front.peers.visitor import Visitor
from hacd.log.entry import Entry
from hacd.loop import Loop, Timer

if TYPE_CHECKING:
    from hacd.front.front import Front
    from hacd.front.owner import Peer
    from hacd.front.sessions import Session

#: ms that a front gets to answer
LIMIT = 1000

#: s between two looks at whether a question's time is over, while there is one
LOOK = 0.05

#: characters of an id, and more
ID_MAX = 64

#: makes one result of those of several fronts
Merge = Callable[[list[Any]], Any]

#: how each of several questions ended
Answers = list[tuple[PeerLink, Answer]]


class Peers:
    """This front is `number` of those whose sockets are at `paths`."""

    def __init__(self, loop: Loop, flusher: Flusher, front: Front, number: int, paths: tuple[str, ...]) -> None:
        self.loop = loop
        self.flusher = flusher
        self.front = front
        self.number = number
        self.links = {each: PeerLink(self, each, path) for each, path in enumerate(paths, 1) if each != number}
        self.offers = Offers(self)
        self.changes = Changes(self)
        self.parting = Parting(self)
        self._visitors: set[Visitor] = set()
        self._waiting: dict[tuple[Any, ...], list[Later]] = {}  # for what is being asked, by method and params
        self._timer = Timer(loop)
        self._watching = False

    def start(self) -> None:
        """Reach them."""
        for link in self.links.values():
            link.dial()

    def who(self) -> dict[str, Any]:
        """How a front introduces itself to another."""
        return {"number": self.number, "pid": os.getpid(), "prefix": self.front.prefix}

    @property
    def up(self) -> list[PeerLink]:
        """Those that can be asked."""
        return [link for link in self.links.values() if link.up]

    @property
    def busy(self) -> bool:
        """Whether somebody here waits for another front, or for what it may still have for him."""
        return self.offers.open or any(link.waits for link in self.links.values()) or not self.parting.may_go

    @property
    def unfinished(self) -> bool:
        """Whether a reply may still come of what this front has, or takes: it may not have heard that all end."""
        front = self.front
        return bool(not front.stopping or front.transactions.live or front.router.live or self.offers.open)

    # -- they come and go

    def visited(self, channel: Channel, value: Any) -> None:
        """Another front has dialled. Raises ProtocolError where it does not say who it is."""
        number = value.get("number") if type(value) is dict else None
        if type(number) is not int or number not in self.links:
            raise ProtocolError("a hello of no front's")
        self._visitors.add(Visitor(self, channel, number))

    def leaves(self, visitor: Visitor) -> None:
        """Its connection has ended."""
        self._visitors.discard(visitor)

    def reached(self, link: PeerLink) -> None:
        """It can be asked from now on. It hears who has registered here."""
        log.debug("front %d is there", link.number)
        link.relay.flush()
        for registration in registrations(self.front.registry.all()):
            link.tell("registered", registration)

    def registered(self, session: Session, routes: set[str]) -> None:
        """A caller here has, for these routes as well."""
        for registration in registrations([(session, routes)]):
            self._tell("registered", registration)

    def left(self, session: Session) -> None:
        """A caller has gone, who perhaps had."""
        if self.front.registry.routes(session):
            self._tell("left", [id(session)])

    def _tell(self, method: str, params: list[Any]) -> None:
        for link in self.links.values():
            link.tell(method, params)

    def pass_on(self, event: Entry) -> None:
        """What this front logged, or a worker of a query of this front's, is for who tails the log at another."""
        for link in self.links.values():
            link.relay.take(event)

    def heard(self, events: list[dict[str, Any]]) -> None:
        """What a worker logged. What is about a query of this front's, the others did not hear."""
        for event in events:
            if event["id"].startswith(self.front.prefix):
                self.pass_on(Entry.of(event))

    def beat(self) -> None:
        """Once a second: what waits for others to hear it goes on."""
        for link in self.links.values():
            link.relay.flush()

    # -- time limits

    def watch(self) -> None:
        """Something was asked."""
        if not self._watching:
            self._watching = True
            self._timer.start(self._look, LOOK, LOOK)

    def _look(self, _timer: Any) -> None:
        now = time.monotonic_ns()
        for link in self.links.values():
            link.expire(now)
        if not any(link.waits for link in self.links.values()):
            self._watching = False
            self._timer.stop()

    # -- what all are asked

    def ask_each(
        self,
        links: list[PeerLink],
        method: str,
        params: list[Any],
        then: Callable[[Answers], None],
        limit: int = LIMIT,
    ) -> None:
        """Ask them, and call `then` once, when each question has ended."""
        answers: Answers = []

        def ended(link: PeerLink, answer: Answer) -> None:
            answers.append((link, answer))
            if len(answers) == len(links):
                then(answers)

        if not links:
            then(answers)
        for link in links:
            link.ask(method, params, partial(ended, link), limit)

    def _gather(self, method: str, params: list[Any], merge: Merge) -> Later:
        """What `merge` makes of the results of those that answer.

        The same is asked once at a time: who wants it meanwhile gets what is asked next, together with others.
        """
        later = Later()
        key = method, *params
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(later)
        else:
            self._gather_for([later], key, merge)
        return later

    def _gather_for(self, laters: list[Later], key: tuple[Any, ...], merge: Merge) -> None:
        self._waiting[key] = []
        method, *params = key
        ended = partial(self._gathered, laters, key, merge)
        self.ask_each(self.up, method, params, ended)

    def _gathered(self, laters: list[Later], key: tuple[Any, ...], merge: Merge, answers: Answers) -> None:
        for link, answer in answers:
            if answer.missing:
                self.left_out(link, key[0], answer.missing)
        result = merge([answer.result for _, answer in answers if not answer.missing and answer.error is None])
        for later in laters:
            later.give(result)
        waiting = self._waiting.pop(key)
        if waiting:
            self._gather_for(waiting, key, merge)

    def left_out(self, link: PeerLink, method: str, why: str) -> None:
        """It had no part in what a caller got."""
        self.front.complaints.warning("%s: front %d %s: it is left out", method, link.number, why)

    def stats(self) -> Later:
        """The counters of all, as they are when each is asked."""
        return self._gather("figures", [], lambda others: merged(self.front, [figures(self.front), *others]))

    def transactions(self, peer: Peer) -> Later:
        """The oldest of all that he may see."""

        def oldest(others: list[Any]) -> list[dict[str, Any]]:
            rows = transactions_for(self.front, peer)
            return nlargest(LISTED, (row for each in (rows, *others) for row in each), key=lambda row: row["age_ms"])

        return self._gather("transactions", [peer.uid], oldest)

    def cancel(self, peer: Peer, id_: str) -> Later:
        """End that transaction, at the front that has it. Raises Refused where that one has too much to answer."""
        for link in self.up:
            if id_.startswith(link.prefix) and len(id_) <= ID_MAX:
                return self._cancel(link, peer, id_)
        later = Later()
        later.give(cancel_for(self.front, peer, id_))
        return later

    def _cancel(self, link: PeerLink, peer: Peer, id_: str) -> Later:
        if link.full:  # not false: the query may be in flight
            raise Refused(BUSY, f"cancel: front {link.number}, which has that query, has {ASKED} others to answer")
        later = Later()

        def ended(answer: Answer) -> None:
            if answer.missing == SILENT:
                later.give(None, Refused(BUSY, f"cancel: front {link.number}, which has that query, {SILENT}"))
            else:
                later.give(answer.result is True)

        link.ask("cancel", [id_, peer.pid, peer.uid], ended, LIMIT)
        return later
