"""The front: sessions on one side, workers on the other, the hash between them.

Law: the front owns the deadline, and `_resume` is the only way out of the hash. Everything
here runs in callbacks of one loop, and takes microseconds.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hacd import log
from hacd.errors import BUSY, STOPPING, ProtocolError, Refused
from hacd.front.alarm import Alarm
from hacd.front.capabilities import Capabilities
from hacd.front.dispatch import Dispatch
from hacd.front.owner import Owner, Sender
from hacd.front.registry import Registry
from hacd.front.routing.router import Router
from hacd.front.sessions import Session
from hacd.front.statistics import Statistics
from hacd.front.tail import Tail
from hacd.front.transactions import Transaction, Transactions
from hacd.front.workers import WorkerLink
from hacd.loop import Loop, Timer
from hacd.outcome import ABORTED, RECV_ERROR, TIMED_OUT, Outcome, drop, failure
from hacd.query import Query, redacted
from hacd.settings import Settings, slots
from hacd.settings.live import dump
from hacd.words import BYE, CONFIGURE, FALLBACK, HELLO, LOGGED

if TYPE_CHECKING:
    from hacd.front.control import Control

#: ns of a ms; clocks are in ns, deadlines in ms
MS = 1_000_000

#: ms after a query's timeout at which the front ends it. curl's own timer comes first then, and tells
#: more (how far it came, from which address); but none outlives this, whatever a worker does.
GRACE = 64

#: deadlines that are acted on at one turn of the loop, so that a storm of them does not hold it
EXPIRIES = 256


class Front:
    """The transactions in flight, who waits for them, and who carries them out."""

    def __init__(self, loop: Loop, settings: Settings) -> None:
        self.statistics = Statistics()
        self.transactions = Transactions(slots(settings.http_async_client.hash_size))
        self.sessions: set[Session] = set()
        self.registry: Registry[Session] = Registry()
        self.router = Router(loop, self)
        self.tail = Tail()
        self.workers: set[WorkerLink] = set()
        self.stopping = False
        self._ending = False
        self._dispatch: Dispatch[WorkerLink] = Dispatch()
        self._capabilities = Capabilities()
        self._parked: dict[Transaction, tuple[str, tuple[Any, ...]]] = {}
        self._unsuspended = 0
        self._alarm: Alarm[Transaction] = Alarm(loop, self._clock_ms, self._due)
        self._overdue: deque[int] = deque()
        self._awake = Timer(loop)
        self._behind: list[Session] = []
        self.configure(settings)
        # Ids of an earlier front are not ids of this one.
        self._prefix = os.urandom(3).hex() + "-"
        self._now = self._started = time.monotonic_ns()
        self.control: Control
        self.on_stop_asked: Callable[[], None] = _nobody
        self.on_workers_ready: Callable[[], None] = _nobody

    def configure(self, settings: Settings) -> None:
        """These settings are in force from now on; workers are told too."""
        self.settings = settings
        self._timeout = settings.http_async_client.connection_timeout
        self._max_transactions = settings.limits.max_transactions
        self._max_client = settings.limits.max_client_in_flight
        self._capabilities.configure(settings.http_async_client.authmethod)
        for link in self.workers:
            self._configure(link)

    def _configure(self, link: WorkerLink) -> None:
        link.tell(CONFIGURE, {"settings": dump(self.settings), "prefix": self._prefix})

    def _clock_ms(self) -> int:
        return self.read_clock() // MS

    def read_clock(self) -> int:
        """Now, in ns of the monotonic clock. Read once for what one wake-up brought."""
        self._now = time.monotonic_ns()
        return self._now

    def uptime(self) -> int:
        """ms since the front started."""
        return (self.read_clock() - self._started) // MS

    def public_id(self, id_: int) -> str:
        """An id as callers see it (`$http_req_id`)."""
        return self._prefix + hex(id_)[2:]

    def find(self, public_id: str) -> Transaction | None:
        """The transaction of such an id, if it is in flight."""
        if not public_id.startswith(self._prefix):
            return None
        try:
            id_ = int(public_id[len(self._prefix) :], 16)
        except ValueError:
            return None
        return self.transactions.find(id_) if self.public_id(id_) == public_id else None

    # -- out: a query is suspended, and goes to a worker

    def suspend(self, session: Owner, msgid: int | None, query: Query) -> Transaction:
        """Accept a query. From here on it has exactly one outcome. Raises Refused (busy, stopping, bad_request).

        `msgid` of None: an unsuspended query, whose reply comes as a notification. It is the
        session that knows its own: no outcome comes before it has noted what this returns.
        """
        url, origin, route, _, xdata, timeout, hdr, body, shape, login = query
        if shape or login:
            self._capabilities.judge(shape, login is not None)
        transactions = self.transactions
        if (
            self.stopping
            or transactions.live >= self._max_transactions
            or len(session.transactions) >= self._max_client
        ):
            self._admit(session)
        transaction = transactions.suspend()
        transaction.session = session
        transaction.msgid = msgid
        transaction.url = url
        transaction.route = route
        transaction.xdata = xdata
        transaction.started = now = self._now
        transaction.timeout = timeout = timeout or self._timeout
        self.statistics.requests += 1
        if msgid is None:
            self._unsuspended += 1
        now_ms = now // MS
        self._alarm.add(transaction, now_ms + timeout + GRACE, now_ms)
        job = (transaction.id, url, timeout, hdr, body, shape, now, login)
        worker = self._dispatch.choose(origin)
        if worker is None:
            self._parked[transaction] = (origin, job)
        else:
            worker.carry_out(transaction, job)
        return transaction

    def _admit(self, owner: Owner) -> None:
        """Raise Refused where no query can be accepted. What routes have begun goes on while the daemon drains."""
        if self.stopping and (self._ending or not owner.inside):
            raise Refused(STOPPING, "the daemon is stopping and takes no new queries")
        if self.transactions.live >= self._max_transactions:
            raise Refused(BUSY, f"max_transactions ({self._max_transactions}) are in flight")
        if len(owner.transactions) >= self._max_client:
            raise Refused(BUSY, f"max_client_in_flight ({self._max_client}) of this connection are in flight")

    # -- back: an outcome arrives, and the transaction is resumed

    def outcomes(self, link: WorkerLink, messages: list[Any]) -> None:
        """What a worker brought: outcomes, and words of its own. Raises ProtocolError for anything else."""
        find = self.transactions.find
        for message in messages:
            try:
                id_, code, outcome = message if len(message) == 3 else link.held(message)
                transaction = find(id_) if id_ else None
            except (TypeError, ValueError):
                raise ProtocolError("what is no outcome") from None
            if transaction is not None:
                self._resume(transaction, code, outcome)
            elif id_:
                self.statistics.late += 1
                drop(outcome)
            else:
                self._word(link, code, outcome)

    def _resume(self, transaction: Transaction, code: int, outcome: Outcome) -> None:
        """The only way out of the hash."""
        self.statistics.end(code)
        if transaction.msgid is None:
            self._unsuspended -= 1
        self._alarm.remove(transaction)
        worker = transaction.worker
        if worker is not None:
            worker.transactions.discard(transaction)
            worker.ends.end(code)
        else:
            self._parked.pop(transaction, None)
        transaction.session.resume(transaction, outcome)
        self.transactions.release(transaction)

    def deliver(self, transaction: Transaction, outcome: Outcome, sender: Sender) -> None:
        """The reply of an unsuspended query: to the daemon's own route, to who registered for it, or to its sender."""
        if transaction.route in self.router.table:
            self.router.resume(transaction, outcome, sender.peer)
            return
        taker = self.registry.choose(transaction.route, sender) or sender
        if not taker.take(transaction, outcome):
            self.statistics.undelivered += 1
            drop(outcome)

    def abort(self, transaction: Transaction, code: int, err: str) -> None:
        """End a transaction from this side, and call its transfer off."""
        if transaction.worker is not None:
            transaction.worker.cancel(transaction)
        self._fail(transaction, code, err)

    def _fail(self, transaction: Transaction, code: int, err: str) -> None:
        total = (self.read_clock() - transaction.started) // 1000
        self._resume(transaction, code, failure(code, err, transaction.url, total))

    # -- deadlines

    def _due(self, transactions: list[Transaction]) -> None:
        # By id: a record may serve another transaction by the time that its turn comes.
        self._overdue.extend(transaction.id for transaction in transactions)

    def _end_overdue(self) -> None:
        for _ in range(min(EXPIRIES, len(self._overdue))):
            transaction = self.transactions.find(self._overdue.popleft())
            if transaction is not None:
                err = f"Timeout was reached: no whole reply within {transaction.timeout} ms"
                self.abort(transaction, TIMED_OUT, err)

    def turn(self) -> None:
        """Once each time before the loop waits: go on with what is too much for one turn.

        Not from a timer: one that is started for at once in a timer's callback runs in the same
        pass, and neither reads nor writes come in between.
        """
        if self._overdue:
            self._end_overdue()
        if self._behind:
            behind, self._behind = self._behind, []
            for session in behind:
                session.catch_up()
        if self._overdue or self._behind:
            self._awake.start(_go_on, 0, 0)

    # -- workers come and go

    def join(self, link: WorkerLink) -> None:
        """A worker has dialled; it gets jobs once it said hello."""
        self.workers.add(link)
        link.channel.on_closed = lambda why: self._lost(link, why)
        link.channel.start()

    def _word(self, link: WorkerLink, name: str, value: Any) -> None:
        if name == HELLO:
            self._hello(link, value)
        elif name == FALLBACK:
            self.statistics.shm_fallbacks += int(value)
        elif name == BYE:
            self._dispatch.remove(link)
            link.goodbye()
        elif name == LOGGED and type(value) is list:
            self.logged(value)
        else:
            raise ProtocolError("a word that is none of a worker's")

    def logged(self, events: list[dict[str, Any]]) -> None:
        """What a process of the daemon logged, for who tails the log. Which route a query has, only the front knows."""
        for event in events:
            transaction = self.find(event["id"]) if event["id"] and not event["route"] else None
            if transaction is not None:
                event["route"] = transaction.route
            self.tail.add(event)

    def _hello(self, link: WorkerLink, value: Any) -> None:
        try:
            link.number, link.pid = int(value["number"]), int(value["pid"])
            self._capabilities.learn(value["authmethods"], value["http_versions"])
        except (KeyError, TypeError, ValueError):
            raise ProtocolError("a hello that does not say who it is") from None
        self._configure(link)
        self._dispatch.add(link)
        log.info("worker %d [%d] is there", link.number, link.pid)
        parked, self._parked = self._parked, {}
        for transaction, (origin, job) in parked.items():
            (self._dispatch.choose(origin) or link).carry_out(transaction, job)
        if len(self._dispatch.workers) >= self.settings.http_async_client.workers:
            self.on_workers_ready()

    def _lost(self, link: WorkerLink, why: str) -> None:
        """A worker died, or was cut off: what it carried out ends with an error."""
        self.workers.discard(link)
        self._dispatch.remove(link)
        held = list(link.transactions)
        if held or not (self.stopping or link.leaving):
            log.warning("worker %d [%d] lost (%s) with %d in flight", link.number, link.pid, why, len(held))
        for transaction in held:
            log.about(self.public_id(transaction.id), transaction.route).debug(
                "worker lost: %s", redacted(transaction.url)
            )
            self._fail(transaction, RECV_ERROR, "worker lost")

    # -- callers come and go

    def welcome(self, session: Session) -> None:
        """A caller has dialled."""
        self.sessions.add(session)
        session.channel.start()

    def later(self, session: Session) -> None:
        """A caller has more to be done than one turn has room for."""
        self._behind.append(session)

    def forget(self, session: Session) -> None:
        """A caller has gone."""
        self.sessions.discard(session)
        self.registry.remove(session)
        self.tail.leave(session.channel)

    # -- the end

    def ask_stop(self) -> None:
        """A caller who may wants the daemon to stop."""
        self.on_stop_asked()

    def drained(self) -> bool:
        """Nothing is in flight, and every caller has taken what was for him."""
        return (
            not self.transactions.live
            and not self._behind
            and not any(session.channel.pending for session in self.sessions if not self.tail.follows(session.channel))
        )

    def end_all(self) -> None:
        """The time to drain is over: what is in flight ends with an error, and routes send nothing more."""
        self._ending = True
        for transaction in list(self.transactions):
            self.abort(transaction, ABORTED, "the daemon is stopping")

    def figures(self) -> dict[str, Any]:
        """For `stats`."""
        in_flight = self.transactions.live
        workers = sorted((link.as_map() for link in self.workers if link.number), key=lambda row: int(row["worker"]))
        figures: dict[str, Any] = self.statistics.as_map()
        figures |= {"in_flight": in_flight, "suspended": in_flight - self._unsuspended, "clients": len(self.sessions)}
        figures["in_routes"] = len(self.router.live)
        return figures | {"workers": workers, "uptime_ms": self.uptime(), "stopping": self.stopping}


def _nobody() -> None:
    """Who is told of something before anybody asked to be."""


def _go_on(_timer: Any) -> None:
    """Keeps the loop from waiting: the next turn has something to do."""
