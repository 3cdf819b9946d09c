"""Who gets the reply of a query that was not suspended. No socket and no clock.

Law: exactly one of: the daemon's own route of that name; a connection that registered for it, here, else at another
front; its sender; nobody, and then it is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hacd.account import TRIFLE, weigh
from hacd.front.registry import Registry
from hacd.outcome import Outcome, drop

if TYPE_CHECKING:
    from hacd.front.front import Front
    from hacd.front.owner import Sender
    from hacd.front.sessions import Session
    from hacd.front.transactions import Transaction


#: bytes that it takes to know who registered for a route, beside its name, here and at each other front
ROUTE = 500


class Delivery:
    """Knows the connections that registered."""

    def __init__(self, front: Front, fronts: int) -> None:
        """`fronts`: how many know each route, this one among them."""
        self._front = front
        self._fronts = fronts
        self.registry: Registry[Session] = Registry()
        self._held: dict[Session, int] = {}  # bytes of the routes of those whose are more than a TRIFLE

    def register(self, session: Session, routes: set[str]) -> set[str]:
        """He takes replies of these; those that are new. Raises Refused where their names are too much."""
        known = self.registry.routes(session)
        more = routes - known
        weight = weigh(*known, *more) + ROUTE * len(known | more)
        if more and weight > TRIFLE:
            added = weight * self._fronts - self._held.get(session, 0)
            self._front.account.admit(added)
            self._front.account.take(added)
            self._held[session] = weight * self._fronts
        self.registry.add(session, more)
        return more

    def forget(self, session: Session) -> None:
        """He has gone."""
        self.registry.remove(session)
        self._front.account.take(-self._held.pop(session, 0))

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
