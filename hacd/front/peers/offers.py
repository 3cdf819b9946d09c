"""Replies of unsuspended queries that nobody here has registered for, offered to the fronts where somebody has.

Law: exactly once. A reply is this front's until the other says that it was taken. On no, when the connection breaks,
or when the time is over, its sender gets it here. What comes first is decided by a ticket, an eventfd that holds 1, of
which the other front gets a descriptor: whoever reads the 1 has the reply, and nobody reads it twice.

    this front      makes the ticket ── take + ticket ──> the other     (or: nobody is there to be asked: the sender)
    the other       nobody has registered: no ──> the sender gets it here
                    claims the ticket, in vain: this front did, and gave it to the sender: no, which nobody hears
                    claims it, writes to the taker: he is there: yes ──> done
                                                    he is gone: the next one; none: no ──> the sender gets it here
    time is over    claims the ticket: the sender gets it here
                    in vain: the other is just giving it to somebody: wait for what it says
    it breaks       claims the ticket: the sender gets it here
                    in vain: the other gave it to somebody, or died as it did: it is not given again

So the one case in which a reply may get lost is a front that is killed between its claim and its write to the taker, as
what it has to say to its own callers does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from hacd.front.access import is_admin_uid
from hacd.front.peers.link import SILENT, Answer, PeerLink
from hacd.front.registry import Registry
from hacd.outcome import Held, Outcome, appendix

if TYPE_CHECKING:
    from hacd.front.owner import Sender
    from hacd.front.peers.peers import Peers
    from hacd.front.transactions import Transaction

#: bytes of replies that are offered at a time; what is more goes to its sender
OFFERED = 64 * 1024 * 1024

#: replies that are offered at a time: each has a descriptor
TICKETS = 256

#: ms that another front gets to take one
LIMIT = 1000


class RemoteTaker:
    """A caller at another front who registered."""

    def __init__(self, link: PeerLink, uid: int) -> None:
        self.link = link
        self._uid = uid

    def may_take_from(self, sender: Sender) -> bool:
        """A caller takes what its own user sent; root and the daemon's own user take everybody's."""
        return self.link.up and (self._uid == sender.peer.uid or is_admin_uid(self._uid))


def claim(ticket: int) -> bool:
    """Whether the reply is this process's to give; the other's from now on finds that it is not."""
    try:
        os.eventfd_read(ticket)
    except BlockingIOError:
        return False
    return True


class Offer:
    """One reply, while another front has the say."""

    def __init__(self, sender: Sender, tail: bytes) -> None:
        """Raises OSError where no descriptor is left for a ticket."""
        self.sender = sender
        self.outcome = b""
        self.tail = tail
        self.ticket = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self.theirs = os.dup(self.ticket)
        except OSError:
            os.close(self.ticket)
            raise


class Offers:
    """What is offered, and to whom it can be."""

    def __init__(self, peers: Peers) -> None:
        self.takers: Registry[RemoteTaker] = Registry()
        self._peers = peers
        self._front = peers.front
        self._open: set[Offer] = set()
        self._bytes = 0

    @property
    def open(self) -> bool:
        """Whether something is offered."""
        return bool(self._open)

    def offer(self, transaction: Transaction, outcome: Outcome, sender: Sender) -> bool:
        """Offer it to a front where somebody may take it; False: there is none, or too much is offered already."""
        taker = self.takers.choose(transaction.route, sender)
        if taker is None or len(self._open) >= TICKETS or self._bytes + size(outcome) > OFFERED:
            return False
        tail = appendix(self._front.public_id(transaction.id), transaction.route, transaction.xdata)
        try:
            offer = Offer(sender, tail)
        except OSError:
            return False
        offer.outcome = as_bytes(outcome)
        self._open.add(offer)
        self._count(len(offer.outcome))
        params = [transaction.route, sender.peer.uid, offer.outcome, tail]
        ended, may_end = partial(self._ended, offer), partial(self._may_end, offer)
        taker.link.ask("take", params, ended, LIMIT, offer.theirs, may_end)
        return True

    def _may_end(self, offer: Offer) -> bool:
        """Its time is over. Whether it is not being given to somebody at this moment."""
        return offer not in self._open or claim(offer.ticket)

    def _ended(self, offer: Offer, answer: Answer) -> None:
        if offer not in self._open:
            return
        lost = answer.missing not in ("", SILENT) and not claim(offer.ticket)
        self._close(offer)
        if answer.result is not True and not lost:
            self._give_back(offer)

    def _close(self, offer: Offer) -> None:
        self._open.discard(offer)
        self._count(-len(offer.outcome))
        os.close(offer.ticket)

    def _count(self, more: int) -> None:
        self._bytes += more
        self._front.account.take(more)

    def _give_back(self, offer: Offer) -> None:
        if not offer.sender.take_packed(offer.outcome, offer.tail):
            self._front.delivery.lost(offer.outcome)

    def end_all(self) -> None:
        """The daemon ends: what nobody has claimed goes to its sender."""
        for offer in list(self._open):
            if claim(offer.ticket):
                self._close(offer)
                self._give_back(offer)


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
