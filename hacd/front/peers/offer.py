"""One reply that is offered to other fronts, and the ticket that says whose it is. No socket and no clock."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hacd.front.owner import Peer, Sender
    from hacd.front.peers.box import Box

#: bytes that it takes to note an offer
NOTED = 1024


def claim(ticket: int) -> bool:
    """Whether the reply is this front's to give; the other's from now on finds that it is not."""
    try:
        os.eventfd_read(ticket)
    except BlockingIOError:
        return False
    return True


class Search(NamedTuple):
    """For whom a reply may be: a caller whose user is that of `peer`, or who may have all, at a front not `tried` yet.

    `silent`: also at one that does not answer.
    """

    peer: Peer
    tried: Collection[Box]
    silent: bool


class Offer:
    """One reply, until somebody has it."""

    def __init__(self, route: str, sender: Sender, outcome: bytes, tail: bytes) -> None:
        self.route = route
        self.sender = sender
        self.outcome = outcome
        self.tail = tail
        self.ticket = -1  # while another front has the say
        self.tried: set[Box] = set()  # of the fronts that were asked

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
