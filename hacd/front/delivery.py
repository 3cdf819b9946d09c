"""Who gets the reply of a query that was not suspended. No socket and no clock.

Law: exactly one of: the daemon's own route of that name; a connection that registered for it, here, else at another
front; its sender; nobody, and then it is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hacd.front.registry import Registry
from hacd.outcome import Outcome, drop

if TYPE_CHECKING:
    from hacd.front.front import Front
    from hacd.front.owner import Sender
    from hacd.front.sessions import Session
    from hacd.front.transactions import Transaction


class Delivery:
    """Knows the connections that registered."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self.registry: Registry[Session] = Registry()

    def deliver(self, transaction: Transaction, outcome: Outcome, sender: Sender) -> None:
        """The reply of an unsuspended query comes back, and goes to who takes it."""
        front = self._front
        if transaction.route in front.router.table:
            front.router.resume(transaction, outcome, sender)
            return
        taker = self.registry.choose(transaction.route, sender)
        if taker is None and front.peers is not None and front.peers.offers.offer(transaction, outcome, sender):
            return
        if not (taker or sender).take(transaction, outcome):
            self.lost(outcome)

    def lost(self, outcome: Outcome) -> None:
        """Nobody takes it."""
        self._front.statistics.undelivered += 1
        drop(outcome)
