"""The workers that are there: who carries a query out, and who does when a worker is lost.

Law: a query that was handed to a worker that is lost goes to another only where that can do no harm:
its method is idempotent or its request had not left yet, and it has had fewer than ATTEMPTS. Everything
else ends with the error `worker lost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hacd import log
from hacd.errors import ProtocolError
from hacd.front.capabilities import Capabilities
from hacd.front.dispatch import Dispatch
from hacd.front.gate import Gate
from hacd.front.statistics import Ends
from hacd.front.transactions import Transaction
from hacd.front.workers import WorkerLink
from hacd.outcome import RECV_ERROR
from hacd.query import is_idempotent, redacted
from hacd.settings import Settings
from hacd.settings.live import dump
from hacd.words import ARENA, BYE, CONFIGURE, FALLBACK, HELLO, LOGGED, PEER, PING, PONG

if TYPE_CHECKING:
    from hacd.front.front import Front

#: workers that one query is given to. The one that it kills is one, and its neighbours there are not to blame.
ATTEMPTS = 2

#: ms between two heartbeats
BEAT = 1000


class Fleet:
    """The workers, and the queries that wait for one."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self.links: set[WorkerLink] = set()
        self.dispatch: Dispatch[WorkerLink] = Dispatch()
        self.capabilities = Capabilities()
        self.gate: Gate[Transaction] = Gate()
        self.states: list[list[Any]] = []  # of each worker its number, state and restarts, as the supervisor has them
        self._parked: dict[Transaction, None] = {}  # in the order of their arrival

    def configure(self, settings: Settings) -> None:
        """These settings are in force: workers take them for the transfers that they begin from now on."""
        self.capabilities.configure(settings.http_async_client.authmethod)
        for link in self.links:
            if link.number:  # else it hears it when it says hello, if it is a worker at all
                self._configure(link)
        for transaction in self.gate.open(self._front.limits.max_host_connections):
            self.give(transaction)

    def _configure(self, link: WorkerLink) -> None:
        link.tell(CONFIGURE, {"settings": dump(self._front.settings), "prefix": self._front.prefix})

    # -- queries that no worker has

    def park(self, transaction: Transaction) -> None:
        """Nobody is there to carry it out: it waits, up to its deadline."""
        self._parked[transaction] = None

    def unpark(self, transaction: Transaction) -> None:
        """It has ended while it waited."""
        self._parked.pop(transaction, None)
        self.gate.forget(transaction)

    def leave(self, transaction: Transaction) -> None:
        """It has ended, and makes room for the next to its origin."""
        following = self.gate.leave(transaction)
        if following is not None:
            self.give(following)

    def _hand_out(self) -> None:
        parked, self._parked = self._parked, {}
        for transaction in parked:
            self.give(transaction)

    def give(self, transaction: Transaction) -> None:
        """To the worker that it is for; where there is none, it waits."""
        link = self.dispatch.choose(transaction.origin)
        if link is None:
            self.park(transaction)
        else:
            link.carry_out(transaction)

    # -- workers come

    def join(self, link: WorkerLink) -> None:
        """A worker has dialled; it gets jobs once it said hello."""
        self.links.add(link)
        link.channel.on_closed = lambda why: self._lost(link, why)
        link.channel.start()

    def word(self, link: WorkerLink, name: str, value: Any) -> None:
        """What a worker says that is no outcome. Raises ProtocolError for what it cannot say."""
        if name == PONG:
            link.unanswered = 0
        elif name == HELLO:
            self._hello(link, value)
        elif name == FALLBACK:
            self._front.statistics.shm_fallbacks += int(value)
        elif name == ARENA:
            self._arena(link, value)
        elif name == BYE:
            self.dispatch.remove(link)
            link.goodbye()
        elif name == LOGGED and type(value) is list:
            self._front.logged(value)
            if self._front.peers is not None:
                self._front.peers.heard(value)
        elif name == PEER and self._front.peers is not None:
            self.links.discard(link)
            self._front.peers.visited(link.channel, value)
        else:
            raise ProtocolError("a word that is none of a worker's")

    def _arena(self, link: WorkerLink, value: Any) -> None:
        """A caller has one of that worker's from now on, or, of size 0, no more."""
        try:
            number, size = map(int, value)
        except (TypeError, ValueError):
            raise ProtocolError("an arena that is nobody's") from None
        fd = link.channel.take_descriptor() if size else None
        if size and fd is None:
            raise ProtocolError("an arena without its descriptor")
        self._front.borrowers.arena(link, number, size, fd)

    def _hello(self, link: WorkerLink, value: Any) -> None:
        try:
            link.number, link.pid = int(value["number"]), int(value["pid"])
            self.capabilities.learn(value["authmethods"], value["http_versions"])
            if value.get("arena"):
                link.has_arena(int(value["arena"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ProtocolError("a hello that does not say who it is") from None
        self._configure(link)
        self.dispatch.add(link)
        log.info("worker %d [%d] is there", link.number, link.pid)
        self._hand_out()
        if len(self.dispatch.workers) >= self._front.settings.http_async_client.workers:
            self._front.on_workers_ready()

    # -- workers go

    def beat(self) -> None:
        """Once each BEAT: ask every worker for an answer of its loop's, and tell of those that have given none.

        Beats are counted and not ms: a front that was held up itself has heard nobody, and nobody is to blame.
        """
        most = self._front.settings.hacd.worker_timeout // BEAT
        for link in self.links:
            if not link.number:
                continue
            if link.unanswered == most:
                if self._front.peers is None:  # else the supervisor says it once for all
                    log.error("worker %d [%d] has not answered for %d ms", link.number, link.pid, most * BEAT)
                self.dispatch.remove(link)
                self._front.on_worker_stuck(link.number, link.pid)
            link.unanswered += 1
            link.tell(PING, None)

    def figures(self) -> list[dict[str, Any]]:
        """Of each worker, also of one that is not there, for `stats`."""
        rows = {link.number: link.as_map() for link in self.links if link.number}
        for number, state, restarts in self.states:
            row = rows.setdefault(number, {"worker": number, "pid": 0, "in_flight": 0, **Ends().as_map()})
            row |= {"state": state, "restarts": restarts}
        return [rows[number] for number in sorted(rows)]

    def _lost(self, link: WorkerLink, why: str) -> None:
        """A worker died, or was cut off. What it carried out goes to another, or ends with an error."""
        self.links.discard(link)
        self.dispatch.remove(link)
        self._front.borrowers.lost(link)
        held = [transaction.id for transaction in sorted(link.transactions, key=_age)]
        if held or not (self._front.stopping or link.leaving):
            log.warning("worker %d [%d] lost (%s) with %d in flight", link.number, link.pid, why, len(held))
        for id_ in held:
            # By id: what one resumes may end others, and their records serve strangers by then.
            transaction = self._front.transactions.find(id_)
            if transaction is None:
                continue
            if self._may_go_on(transaction):
                self._front.statistics.retried += 1
                link.transactions.discard(transaction)
                transaction.worker = None
                self.give(transaction)
            else:
                self._end(transaction)

    def _may_go_on(self, transaction: Transaction) -> bool:
        if transaction.attempts >= ATTEMPTS or self._front.ending:
            return False
        if is_idempotent(transaction.job[5], transaction.job[4] is not None):
            return True
        return not self._front.ledger.reached(transaction.id)

    def _end(self, transaction: Transaction) -> None:
        about = log.about(self._front.public_id(transaction.id), transaction.route)
        about.debug("worker lost: %s", redacted(transaction.url))
        self._front.fail(transaction, RECV_ERROR, "worker lost")


def _age(transaction: Transaction) -> int:
    return transaction.started
