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

So the one case in which a reply may get lost is a front that is killed between its claim and its write to the taker, as
what it has to say to its own callers does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from hacd.front.access import is_admin_uid
from hacd.front.peers.link import SILENT, Answer, PeerLink
from hacd.front.registry import Registry
from hacd.outcome import Held, Outcome, appendix

if TYPE_CHECKING:
    from hacd.front.owner import Peer, Sender
    from hacd.front.peers.peers import Peers
    from hacd.front.transactions import Transaction

#: bytes of replies that are offered at a time, or wait for that, each with what it takes to note it; what is more goes
#: to its sender
OFFERED, NOTED = 64 * 1024 * 1024, 1024

#: replies that are offered at a time, of which each front has its share: each has a descriptor
TICKETS = 256

#: replies that go on to the next at one turn of the loop
GO_ON = 256

#: ms that another front gets to take one
LIMIT = 1000


class RemoteTaker:
    """A caller at another front who registered."""

    def __init__(self, link: PeerLink, uid: int) -> None:
        self.link = link
        self._uid = uid

    def may_take_from(self, sender: Sender | Offer) -> bool:
        """A caller takes what its own user sent; root and the daemon's own user take everybody's.

        Of a front that is silent, only what nobody else would take.
        """
        link = self.link
        if not link.up or (link.silent and sender.here) or (isinstance(sender, Offer) and link in sender.tried):
            return False
        return self._uid == sender.peer.uid or is_admin_uid(self._uid)


def claim(ticket: int) -> bool:
    """Whether the reply is this front's to give; the other's from now on finds that it is not."""
    try:
        os.eventfd_read(ticket)
    except BlockingIOError:
        return False
    return True


class Offer:
    """One reply, until somebody has it."""

    def __init__(self, route: str, sender: Sender, outcome: bytes, tail: bytes) -> None:
        self.route = route
        self.sender = sender
        self.outcome = outcome
        self.tail = tail
        self.ticket = -1  # while another front has the say
        self.tried: set[PeerLink] = set()

    @property
    def peer(self) -> Peer:
        """Who sent the query."""
        return self.sender.peer

    @property
    def here(self) -> bool:
        """Whether its sender would take it."""
        return self.sender.here

    @property
    def weight(self) -> int:
        """Bytes that it holds."""
        return len(self.outcome) + len(self.tail) + NOTED

    def give(self, to: Sender) -> bool:
        """Give it to him; whether he is still there."""
        return to.take_packed(self.outcome, self.tail)

    def make_ticket(self) -> int:
        """What goes to the other front. Raises OSError where no descriptor is left."""
        ticket = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            theirs = os.dup(ticket)
        except OSError:
            os.close(ticket)
            raise
        self.ticket = ticket
        return theirs

    def tear(self) -> None:
        """The ticket has served."""
        os.close(self.ticket)
        self.ticket = -1


class Box:
    """What one front is offered, and what waits for a ticket to be."""

    def __init__(self) -> None:
        self.open: set[Offer] = set()
        self.waiting: deque[Offer] = deque()


class Offers:
    """What is offered, and to whom it can be."""

    def __init__(self, peers: Peers) -> None:
        self.takers: Registry[RemoteTaker] = Registry()
        self._peers = peers
        self._front = peers.front
        self._boxes = {link: Box() for link in peers.links.values()}
        self._tickets = max(1, TICKETS // max(1, len(self._boxes)))  # of each front
        self._going_on: deque[Offer] = deque()  # to the next, whoever that is
        self._count = self._bytes = 0

    @property
    def open(self) -> bool:
        """Whether something is offered, or waits for that."""
        return bool(self._count)

    def offer(self, transaction: Transaction, outcome: Outcome, sender: Sender) -> bool:
        """Offer it to a front where somebody may take it; False: there is none, or too much is offered already."""
        taker = self.takers.choose(transaction.route, sender)
        if taker is None:
            return False
        more = size(outcome) + NOTED
        if self._bytes + more > OFFERED or not self._front.account.has_room(more):
            return False
        tail = appendix(self._front.public_id(transaction.id), transaction.route, transaction.xdata)
        offer = Offer(transaction.route, sender, as_bytes(outcome), tail)
        self._note(1, offer.weight)
        self._offer_to(taker.link, offer)
        return True

    def _note(self, count: int, more: int) -> None:
        self._count += count
        self._bytes += more
        self._front.account.take(more)

    def _done(self, offer: Offer) -> None:
        """Somebody has it, or nobody ever will."""
        self._note(-1, -offer.weight)

    # -- to another front

    def _offer_to(self, link: PeerLink, offer: Offer) -> None:
        box = self._boxes[link]
        if len(box.open) >= self._tickets or box.waiting:
            box.waiting.append(offer)
        else:
            self._ask(link, box, offer)

    def _ask(self, link: PeerLink, box: Box, offer: Offer) -> None:
        offer.tried.add(link)
        try:
            theirs = offer.make_ticket()
        except OSError:
            self._go_on_with(offer)
            return
        box.open.add(offer)
        params = [offer.route, offer.peer.uid, offer.outcome, offer.tail]
        ended, may_end = partial(self._ended, link, offer), partial(self._may_end, box, offer)
        link.ask("take", params, ended, LIMIT, theirs, may_end)

    def _may_end(self, box: Box, offer: Offer) -> bool:
        """Its time is over. Whether it is not being given to somebody at this moment, and there is a next."""
        return offer not in box.open or (self._has_next(offer) and claim(offer.ticket))

    def _has_next(self, offer: Offer) -> bool:
        return offer.here or self._front.registry.has(offer.route, offer) or self.takers.has(offer.route, offer)

    def _ended(self, link: PeerLink, offer: Offer, answer: Answer) -> None:
        box = self._boxes[link]
        if offer not in box.open:
            return
        lost = answer.missing not in ("", SILENT) and not claim(offer.ticket)
        self._close(box, offer)
        if answer.result is True or lost:
            self._done(offer)
        else:
            self._go_on_with(offer)
        self._front.rota.later(self._go_on)

    def fell_silent(self, link: PeerLink) -> None:
        """What waits to be offered to that front goes on: its sender may be here, and not wait as long as others."""
        box = self._boxes[link]
        self._going_on += box.waiting
        box.waiting.clear()
        self._front.rota.later(self._go_on)

    def _close(self, box: Box, offer: Offer) -> None:
        box.open.discard(offer)
        offer.tear()

    # -- to the next

    def _go_on_with(self, offer: Offer) -> None:
        self._going_on.append(offer)
        self._front.rota.later(self._go_on)

    def _go_on(self) -> None:
        """What somebody would not have goes on, and tickets that are free serve others."""
        for _ in range(min(GO_ON, len(self._going_on))):
            self._place(self._going_on.popleft())
        for link, box in self._boxes.items():
            for _ in range(min(self._tickets - len(box.open), len(box.waiting))):
                self._go_on_at(link, box, box.waiting.popleft())
        if self._going_on or any(box.waiting and len(box.open) < self._tickets for box in self._boxes.values()):
            self._front.rota.later(self._go_on)

    def _go_on_at(self, link: PeerLink, box: Box, offer: Offer) -> None:
        if not link.up or (link.silent and self._has_next(offer)):
            self._going_on.append(offer)
        else:
            self._ask(link, box, offer)

    def _place(self, offer: Offer) -> None:
        """To who registered here, or at a front that was not asked yet; else to the sender."""
        here = self._front.registry.choose(offer.route, offer)
        if here is None or not offer.give(here):
            taker = self.takers.choose(offer.route, offer)
            if taker is not None:
                self._offer_to(taker.link, offer)
                return
            self._give_back(offer)
        self._done(offer)

    def _give_back(self, offer: Offer) -> None:
        if not offer.give(offer.sender):
            self._front.delivery.lost(offer.outcome)

    def end_all(self) -> None:
        """The daemon ends: what nobody has claimed goes to its sender."""
        left = list(self._going_on)
        self._going_on.clear()
        for box in self._boxes.values():
            for offer in list(box.open):
                if claim(offer.ticket):
                    self._close(box, offer)
                    left.append(offer)
            left += box.waiting
            box.waiting.clear()
        for offer in left:
            self._give_back(offer)
            self._done(offer)


def size(outcome: Outcome) -> int:
    """Bytes of an outcome."""
    return outcome.body.size if isinstance(outcome, Held) else len(outcome)


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
