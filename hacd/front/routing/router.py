"""The daemon's routes as the front has them: who enters them, and how long that may take."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from hacd import log
from hacd.account import weigh
from hacd.errors import BUSY, INTERNAL, STOPPING, UNKNOWN_ROUTE, Refused, shown
from hacd.front.alarm import Alarm
from hacd.front.routing.transaction import Caller, RoutedTransaction
from hacd.front.transactions import Transaction
from hacd.loop import Loop
from hacd.outcome import Held, Outcome, appendix
from hacd.reply import Reply
from hacd.routes import Table
from hacd.rpc import unpack

if TYPE_CHECKING:
    from hacd.front.front import Front
    from hacd.front.owner import Sender
    from hacd.front.sessions import Session

#: ns of a ms
MS = 1_000_000

#: transactions that are ended at one turn of the loop since their time is over
EXPIRIES = 64

#: names that an error lists
NAMED = 20


class Router:
    """The routes by name, and the transactions that are in them."""

    def __init__(self, loop: Loop, front: Front) -> None:
        self.front = front
        self.table: Table = {}
        self.path = ""
        self.live: set[RoutedTransaction] = set()
        self.overdue: deque[RoutedTransaction] = deque()
        self._alarm: Alarm[RoutedTransaction] = Alarm(loop, lambda: front.read_clock() // MS, self.overdue.extend)

    def replace(self, path: str, table: Table) -> None:
        """These are the routes from now on. Transactions that are suspended resume in them."""
        self.path, self.table = path, table

    def unknown(self, route: str) -> str:
        """What is wrong with a name that no route has."""
        there_are = ", ".join(sorted(self.table)[:NAMED]) or "none"
        return f"route {shown(route)}: the daemon has no such route; there are: {there_are}"

    # -- ways in

    def run(self, session: Session, caller: Caller | None, route: str, variables: dict[str, Any]) -> RoutedTransaction:
        """A caller enters a route. Raises Refused (unknown_route, busy, stopping)."""
        if route not in self.table:
            raise Refused(UNKNOWN_ROUTE, self.unknown(route))
        if self.front.stopping:
            raise Refused(STOPPING, "the daemon is stopping and enters no routes")
        limit = self.front.settings.limits.max_client_in_flight
        if len(session.routed) >= limit:
            raise Refused(BUSY, f"max_client_in_flight ({limit}) of the routes that this connection entered")
        self.front.account.admit(_weight(variables))
        return RoutedTransaction(self, session, variables, caller)

    def begin(self, tx: RoutedTransaction, route: str, reply: Reply | None = None) -> None:
        """The transaction's first route runs."""
        timeout = self.front.settings.hacd.transaction_timeout
        now = self.front.read_clock() // MS
        self.live.add(tx)
        self.hold(tx, _weight(tx.vars))
        self._alarm.add(tx, now + timeout, now)
        tx.begin(route, reply)

    def resume(self, transaction: Transaction, outcome: Outcome, sender: Sender) -> None:
        """The reply of an unsuspended query comes to the daemon's route of that name."""
        tx = RoutedTransaction(self, sender, {}, None)
        self.begin(tx, transaction.route, self.reply(transaction, outcome))

    def reply(self, transaction: Transaction, outcome: Outcome) -> Reply:
        """An outcome as a route sees it. It has a copy of a body in shared memory: nobody knows how long it is kept."""
        if isinstance(outcome, Held):
            held, outcome = outcome, outcome.as_bytes()
            held.release()
        public_id = self.front.public_id(transaction.id)
        return Reply(unpack(outcome + appendix(public_id, transaction.route, transaction.xdata)))

    # -- what they may take

    def hold(self, tx: RoutedTransaction, size: int) -> None:
        """It holds that much more of what callers and origins sent."""
        tx.held += size
        self.front.account.take(size)

    def took(self, route: str, ns: int) -> None:
        """A step of a route is over. While it runs, nobody else is served: one that takes long is logged."""
        if ns > self.front.settings.hacd.route_warn_ms * MS:
            log.about("", route).warning("route %s held the front for %d ms (route_warn_ms)", route, ns // MS)

    def end_overdue(self) -> bool:
        """End some of those whose time is over; whether there are more."""
        timeout = self.front.settings.hacd.transaction_timeout
        for _ in range(min(EXPIRIES, len(self.overdue))):
            tx = self.overdue.popleft()
            if not tx.ended:
                text = f"route {tx.route}: no end within transaction_timeout ({timeout} ms)"
                log.about(tx.id_in_log, tx.route).warning("%s", text)
                tx.end(Refused(INTERNAL, text))
        return bool(self.overdue)

    def ended(self, tx: RoutedTransaction) -> None:
        """A transaction is over."""
        self.live.discard(tx)
        self._alarm.remove(tx)
        self.hold(tx, -tx.held)


def _weight(variables: dict[str, Any]) -> int:
    """Bytes that the variables of a `run` take."""
    return weigh(*variables.values())
