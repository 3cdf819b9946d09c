"""Replies of unsuspended queries that nobody here has registered for, offered to the fronts where somebody has.

Law: exactly once. A reply is this front's until the other says that it was taken. On no, when the connection breaks,
or when the time is over, the next one gets it: who has registered here by now, a front that was not asked yet, its
sender. What comes first is decided by a ticket, an eventfd that holds 1, of which the other front gets a descriptor:
whoever reads the 1 has the reply, and nobody reads it twice.

    this front      makes the ticket ── take + ticket ──> the other     (or: nobody is there to be asked: the next)
    the other       nobody has registered: no ──> the next
                    claims the ticket, in vain: this front did, and gave it to the next: no, which nobody hears
                    claims it, writes to the taker: he is there: yes ──> done
                                                    he is gone: the next one there; none: no ──> the next
    time is over    claims the ticket: the next gets it
                    in vain: the other is just giving it to somebody: wait for what it says
                    there is no next, and the sender has gone: wait, too
    it breaks       claims the ticket: the next gets it
                    in vain: the other gave it to somebody, or died as it did: it is not given again

Who sends and leaves has no other than those who registered: so what is too much for the tickets waits for one.

So where a taker lives, a reply is lost in these cases alone: the front that claimed it is killed before its write to
the taker, as what it has to say to its own callers is lost then; its sender has gone, and what is offered already is
OFFERED bytes, or as much as queries may hold of `max_memory`; its sender has gone, and `drain_timeout` is over; its
sender has gone, and the taker registered at a front that had said no before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from hacd.front.peers.box import Box, RemoteTaker
from hacd.front.peers.link import PeerLink
from hacd.front.peers.offer import NOTED, Offer, Search
from hacd.front.registry import Registry
from hacd.loop import Timer
from hacd.outcome import Held, Outcome, appendix
from hacd.shared import TICKETS

if TYPE_CHECKING:
    from hacd.front.owner import Peer, Sender
    from hacd.front.peers.peers import Peers
    from hacd.front.transactions import Transaction

#: bytes of replies that are offered at a time, or wait for that, each with NOTED; what is more goes to its sender
OFFERED = 64 * 1024 * 1024

#: replies that go on to the next at one turn of the loop
GO_ON = 256


class Offers:
    """What is offered, and to whom it can be."""

    def __init__(self, peers: Peers) -> None:
        self._takers: Registry[RemoteTaker] = Registry()
        self._front = peers.front
        links = list(peers.links.values())
        tickets = max(1, TICKETS // max(1, len(links)))  # each front has its share
        self._boxes = {link: Box(link, self, tickets, Timer(peers.loop)) for link in links}
        self._going_on: deque[Offer] = deque()  # to the next, whoever that is
        self._count = self._bytes = 0

    @property
    def open(self) -> bool:
        """Whether something is offered, or waits for that."""
        return bool(self._count)

    # -- who is there

    def taker(self, link: PeerLink, uid: int) -> RemoteTaker:
        """A caller of that front's."""
        return RemoteTaker(self._boxes[link], uid)

    def registered(self, taker: RemoteTaker, routes: Iterable[str]) -> None:
        """He takes replies of these as well."""
        more = set(routes) - self._takers.routes(taker)
        taker.box.count(taker, more, 1)
        self._takers.add(taker, more)

    def left(self, taker: RemoteTaker) -> None:
        """He has gone."""
        taker.box.count(taker, self._takers.routes(taker), -1)
        self._takers.remove(taker)

    # -- in

    def offer(self, transaction: Transaction, outcome: Outcome, sender: Sender) -> bool:
        """Offer it to a front where somebody may take it; False: there is none, or too much is offered already."""
        taker = self._choose(transaction.route, sender.peer, (), sender.here)
        if taker is None:
            return False
        tail = appendix(self._front.public_id(transaction.id), transaction.route, transaction.xdata)
        more = size(outcome) + len(tail) + NOTED
        if self._bytes + more > OFFERED or not self._front.account.has_room(more):
            return False
        offer = Offer(transaction.route, sender, as_bytes(outcome), tail)
        self._note(1, offer.weight)
        taker.box.offer(offer)
        return True

    def _note(self, count: int, more: int) -> None:
        self._count += count
        self._bytes += more
        self._front.account.take(more)

    def done(self, offer: Offer) -> None:
        """Somebody has it, or nobody ever will."""
        self._note(-1, -offer.weight)

    # -- to the next

    def has_next(self, offer: Offer) -> bool:
        """Whether somebody would take it who is here, or at a front that was not asked and answers."""
        search = Search(offer.peer, offer.tried, silent=False)
        return (
            offer.here
            or self._front.registry.has(offer.route, offer)
            or any(box.has_taker(offer.route, search) for box in self._boxes.values())
        )

    def _choose(self, route: str, peer: Peer, tried: Collection[Box], here: bool) -> RemoteTaker | None:
        """Whose turn it is. One at a front that is silent comes last, and only where no sender is `here` to have it."""
        for silent in (False,) if here else (False, True):
            search = Search(peer, tried, silent)
            # Not taker by taker, where there are thousands at a front that was asked already.
            if any(box.has_taker(route, search) for box in self._boxes.values()):
                return self._takers.choose(route, search)
        return None

    def fell_silent(self, link: PeerLink) -> None:
        """A question to that front was not answered in time."""
        self._boxes[link].fell_silent()

    def go_on_with(self, offer: Offer) -> None:
        """Whom it was for would not have it, or cannot be asked."""
        self._going_on.append(offer)
        self.go_on_soon()

    def go_on_soon(self) -> None:
        """In the next turn: something goes on, or a ticket or a descriptor is free."""
        self._front.rota.later(self._go_on)

    def _go_on(self) -> None:
        """What somebody would not have goes on, and tickets that are free serve others."""
        for _ in range(min(GO_ON, len(self._going_on))):
            self._place(self._going_on.popleft())
        for box in self._boxes.values():
            box.go_on()
        if self._going_on or any(box.ready for box in self._boxes.values()):
            self.go_on_soon()

    def _place(self, offer: Offer) -> None:
        """To who registered here, or at a front that was not asked yet; else to the sender."""
        if self._given_here(offer):
            return
        taker = self._choose(offer.route, offer.peer, offer.tried, offer.here)
        if taker is not None:
            taker.box.offer(offer)
        else:
            self._give_back(offer)

    def give_here(self, offer: Offer) -> None:
        """To who registered here, else to the sender: other fronts are asked no more."""
        if not self._given_here(offer):
            self._give_back(offer)

    def _given_here(self, offer: Offer) -> bool:
        here = self._front.registry.choose(offer.route, offer)
        if here is None or not offer.give(here):
            return False
        self.done(offer)
        return True

    def _give_back(self, offer: Offer) -> None:
        if not offer.give(offer.sender):
            self._front.delivery.lost(offer.outcome)
        self.done(offer)

    def end_all(self) -> None:
        """The daemon ends: what nobody has claimed goes to who registered here, else to its sender."""
        left = list(self._going_on)
        self._going_on.clear()
        for box in self._boxes.values():
            left += box.take_back()
        for offer in left:
            self.give_here(offer)


def size(outcome: Outcome) -> int:
    """Bytes of an outcome."""
    if isinstance(outcome, Held):
        return len(outcome.begin) + outcome.body.size + len(outcome.rest)
    return len(outcome)


def as_bytes(outcome: Outcome) -> bytes:
    """An outcome whose body is in shared memory no more."""
    if not isinstance(outcome, Held):
        return outcome
    data = outcome.as_bytes()
    outcome.release()
    return data


def registrations(sessions: Iterable[tuple[Any, set[str]]]) -> Iterable[list[Any]]:
    """Who has registered here, as other fronts are told."""
    for session, routes in sessions:
        yield [id(session), session.peer.uid, sorted(routes)]
