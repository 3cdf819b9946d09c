"""The front: sessions on one side, workers on the other, the hash between them.

Law: the front owns the deadline, and `_resume` is the only way out of the hash. Everything
here runs in callbacks of one loop, and takes microseconds.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from hacd import files, log
from hacd.account import EACH, TRIFLE, Account, weigh
from hacd.arena import FILE
from hacd.errors import BUSY, STOPPING, ProtocolError, Refused
from hacd.front.access import Access, RulesByUser
from hacd.front.alarm import Alarm
from hacd.front.borrowing import Borrowers
from hacd.front.delivery import Delivery
from hacd.front.doors import Doors, Shares, counted
from hacd.front.fleet import Fleet
from hacd.front.owner import Owner
from hacd.front.rota import Rota
from hacd.front.routing.router import Router
from hacd.front.sessions import Session
from hacd.front.statistics import Statistics
from hacd.front.tail import Tail
from hacd.front.transactions import Transaction, Transactions
from hacd.front.workers import WorkerLink
from hacd.ledger import Ledger
from hacd.log.sparing import Sparing
from hacd.loop import Loop, Timer
from hacd.outcome import ABORTED, DENIED, TIMED_OUT, Outcome, appendix, drop, failure
from hacd.query import Query, redacted
from hacd.rpc import pack, unpack
from hacd.settings import Settings, slots
from hacd.settings.shares import share

if TYPE_CHECKING:
    from hacd.front.control import Control
    from hacd.front.peers.peers import Peers

#: ns of a ms; clocks are in ns, deadlines in ms
MS = 1_000_000

#: ms after a query's timeout at which the front ends it. curl's own timer comes first then, and tells
#: more (how far it came, from which address); but none outlives this, whatever a worker does.
GRACE = 64

#: deadlines that are acted on at one turn of the loop at the least, and ns that more of them may take, so that a storm
#: of them does not hold it. As much as callers may take: they accept queries meanwhile, and would outrun them.
EXPIRIES, STORM = 256, 50_000_000


class Front:
    """The transactions in flight, who waits for them, and who carries them out."""

    def __init__(self, loop: Loop, settings: Settings, ledger: Ledger, number: int = 1) -> None:
        """`number`: of the fronts that the settings want."""
        self.number = number
        self.peers: Peers | None = None  # where there are several
        self.states: list[list[Any]] = []  # of each front its number, pid, state, restarts, as the supervisor has them
        self.statistics = Statistics()
        size = slots(settings.http_async_client.hash_size)
        self.transactions = Transactions(size, number, settings.hacd.fronts)
        self.sessions: set[Session] = set()
        self.account = Account()
        self.doors = Doors()
        self._shares: Shares | None = None  # of transactions, where users have a bound of their own
        self.borrowers = Borrowers()
        self.delivery = Delivery(self, settings.hacd.fronts)
        self.deliver = self.delivery.deliver
        self.registry = self.delivery.registry
        self.router = Router(loop, self)
        self.tail = Tail()
        self.ledger = ledger
        self.fleet = Fleet(self)
        self._give = self.fleet.give
        self._gate = self.fleet.gate
        self._judge = self.fleet.capabilities.judge
        self.stopping = False
        self.ending = False
        self.activated = False  # the public socket is systemd's
        self.unsuspended = 0
        self._alarm: Alarm[Transaction] = Alarm(loop, self._clock_ms, self._due)
        self._overdue: deque[int] = deque()
        self._abandoned: deque[tuple[int, str]] = deque()
        self._awake = Timer(loop)
        self.rota = Rota()
        self.complaints = Sparing()  # of what callers can cause as often as they like
        # Ids of an earlier front are not ids of this one.
        self.prefix = os.urandom(3).hex() + "-"
        self.configure(settings)
        self._now = self._started = time.monotonic_ns()
        self.control: Control
        self.on_stop_asked: Callable[[], None] = _nobody
        self.on_workers_ready: Callable[[], None] = _nobody
        self.on_worker_stuck: Callable[[int, int], None] = _nobody

    def configure(self, settings: Settings) -> None:
        """These settings are in force from now on; workers are told too."""
        self.settings = settings
        self._timeout = settings.http_async_client.connection_timeout
        self.limits = limits = share(settings)
        self._max_transactions = limits.max_transactions
        self._max_client = limits.max_client_in_flight
        self.account.limit = limits.max_memory
        self.doors.configure(limits)
        uids = (transaction.session.peer.uid for transaction in self.transactions)
        self._shares = counted(self._shares, limits.max_user_transactions, uids)
        files.confine(settings.hacd.tls_dirs)
        self.access = Access(settings)
        self._rules = RulesByUser(settings) or None  # most have none, and then a query pays one test
        self.fleet.configure(settings)

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
        return f"{self.prefix}{id_:x}"

    def find(self, public_id: str) -> Transaction | None:
        """The transaction of such an id, if it is in flight."""
        if not public_id.startswith(self.prefix):
            return None
        try:
            id_ = int(public_id[len(self.prefix) :], 16)
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
            self._judge(shape, login is not None)
        if self._rules is not None:
            shape = self._rules.shape(session.peer, shape)
        held = 0
        if shape or hdr is not None or body is not None or len(url) + len(xdata) > TRIFLE:
            held = self._weigh(session, query, shape)
        transactions = self.transactions
        if (
            self.stopping
            or transactions.live >= self._max_transactions
            or len(session.transactions) >= self._max_client
            or (self._shares is not None and not self._shares.take(session.peer.uid))
        ):
            self._admit(session)
        transaction = transactions.suspend()
        transaction.session = session
        transaction.msgid = msgid
        transaction.url = url
        transaction.route = route
        transaction.xdata = xdata
        if held:
            transaction.held = held
            self.account.take(held)
        transaction.started = now = self._now
        transaction.timeout = timeout = timeout or self._timeout
        self.statistics.requests += 1
        if msgid is None:
            self.unsuspended += 1
        now_ms = now // MS
        self._alarm.add(transaction, now_ms + timeout + GRACE, now_ms)
        if shape or body is not None:  # it may be one that is not to be sent twice
            self.ledger.clear(transaction.id)
        transaction.origin = origin
        into = session.into if msgid is not None else min(session.into, FILE)  # else it may go to somebody else
        transaction.job = (transaction.id, url, timeout, hdr, body, shape, now, login, into)
        if self._gate.limit and not self._gate.enter(transaction):
            return transaction
        self._give(transaction)
        return transaction

    def _weigh(self, owner: Owner, query: Query, shape: bytes) -> int:
        """Bytes that a query holds as long as it is in flight; 0: a trifle. Raises Refused where that is too much."""
        url, _, _, _, xdata, _, hdr, body, _, login = query
        lines = hdr or ()
        if sum(map(len, (url, shape, xdata, body or b"", *lines))) + EACH * len(lines) <= TRIFLE:
            return 0
        held = weigh(url, xdata, body, shape, *lines, *(login or ()))
        try:
            self.account.admit(held)
        except Refused as refusal:
            self.complaints.warning("caller %s refused: %s", owner.peer, refusal.message)
            raise
        return held

    def _admit(self, owner: Owner) -> None:
        """Raise Refused where no query can be accepted. What routes have begun goes on while the daemon drains."""
        if self.stopping and (self.ending or not owner.inside):
            raise Refused(STOPPING, "the daemon is stopping and takes no new queries")
        if self.transactions.live >= self._max_transactions:
            raise Refused(BUSY, f"max_transactions ({self._max_transactions}) are in flight")
        if len(owner.transactions) >= self._max_client:
            raise Refused(BUSY, f"max_client_in_flight ({self._max_client}) of this connection are in flight")
        shares, peer = self._shares, owner.peer
        if shares is not None and not shares.take(peer.uid):
            refusal = Refused(BUSY, f"max_user_transactions ({shares.limit}) of uid {peer.uid} are in flight")
            self.complaints.warning("caller %s refused: %s", peer, refusal.message)
            raise refusal

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
                self.fleet.word(link, code, outcome)

    def _resume(self, transaction: Transaction, code: int, outcome: Outcome) -> None:
        """The only way out of the hash."""
        self.statistics.end(code)
        if transaction.held:
            self.account.take(-transaction.held)
            transaction.held = 0
        if self._shares is not None:
            self._shares.leave(transaction.session.peer.uid)
        if code == DENIED:
            self._denied(transaction, outcome)
        if transaction.msgid is None:
            self.unsuspended -= 1
        self._alarm.remove(transaction)
        worker = transaction.worker
        if worker is not None:
            worker.transactions.discard(transaction)
            worker.ends.end(code)
        else:
            self.fleet.unpark(transaction)
        if transaction.counted:
            self.fleet.leave(transaction)
        transaction.session.resume(transaction, outcome)
        self.transactions.release(transaction)

    def _denied(self, transaction: Transaction, outcome: Outcome) -> None:
        """`[egress]` refused a query: counted, and told who asked for it."""
        self.statistics.denied += 1
        assert isinstance(outcome, bytes)  # it has no body
        why = unpack(outcome + appendix("", "", pack(None)))["err"]
        to = log.about(self.public_id(transaction.id), transaction.route)
        url = redacted(transaction.url)
        self.complaints.warning("%s: %s, asked for by %s", url, why, transaction.session.peer, to=to)

    def abort(self, transaction: Transaction, code: int, err: str) -> None:
        """End a transaction from this side, and call its transfer off."""
        if transaction.worker is not None:
            transaction.worker.cancel(transaction)
        self.fail(transaction, code, err)

    def abandon(self, ids: Iterable[int], err: str) -> None:
        """Nobody waits for these any more: they are aborted, some at each turn, since one caller may leave 100,000."""
        self._abandoned.extend((id_, err) for id_ in ids)

    def _end_abandoned(self) -> None:
        for _ in range(min(EXPIRIES, len(self._abandoned))):
            id_, err = self._abandoned.popleft()
            self.abort_each((id_,), ABORTED, err)

    def abort_each(self, ids: Iterable[int], code: int, err: str) -> None:
        """Abort those of these transactions that are still in flight when their turn comes.

        By id: what one resumes may end others, and their records serve strangers by then.
        """
        for id_ in ids:
            transaction = self.transactions.find(id_)
            if transaction is not None:
                self.abort(transaction, code, err)

    def fail(self, transaction: Transaction, code: int, err: str) -> None:
        """End a transaction that no worker has any more."""
        if not transaction.live:
            return
        total = (self.read_clock() - transaction.started) // 1000
        self._resume(transaction, code, failure(code, err, transaction.url, total))

    # -- deadlines

    def _due(self, transactions: list[Transaction]) -> None:
        # By id: a record may serve another transaction by the time that its turn comes.
        self._overdue.extend(transaction.id for transaction in transactions)

    def _end_overdue(self) -> None:
        ends = self.read_clock() + STORM
        while self._overdue:
            for _ in range(min(EXPIRIES, len(self._overdue))):
                transaction = self.transactions.find(self._overdue.popleft())
                if transaction is not None:
                    err = f"Timeout was reached: no whole reply within {transaction.timeout} ms"
                    self.abort(transaction, TIMED_OUT, err)
            if self.read_clock() >= ends:
                return

    def turn(self) -> None:
        """Once each time before the loop waits: go on with what is too much for one turn.

        Not from a timer: one that is started for at once in a timer's callback runs in the same
        pass, and neither reads nor writes come in between.
        """
        if self.account.total > self.account.limit:
            self.account.relieve()
        if self._overdue:
            self._end_overdue()
        self.rota.turn()
        if self._abandoned:
            self._end_abandoned()
        overdue = self.router.overdue and self.router.end_overdue()
        if self._overdue or self.rota.waiting or self._abandoned or overdue:
            self._awake.start(_go_on, 0, 0)

    # -- what processes log

    def logged(self, events: list[dict[str, Any]]) -> None:
        """What a process of the daemon logged, for who tails the log. Which route a query has, only the front knows."""
        for event in events:
            transaction = self.find(event["id"]) if event["id"] and not event["route"] else None
            if transaction is not None:
                event["route"] = transaction.route
            self.tail.add(event)

    # -- callers come and go

    def welcome(self, session: Session) -> None:
        """A caller has dialled."""
        self.sessions.add(session)
        self.doors.enter(session)
        session.channel.start()

    def forget(self, session: Session) -> None:
        """A caller has gone."""
        self.sessions.discard(session)
        self.doors.leave(session)
        if self.peers is not None:
            self.peers.left(session)
        self.delivery.forget(session)
        self.tail.leave(session.channel)

    # -- the end

    def ask_stop(self) -> None:
        """A caller who may wants the daemon to stop."""
        self.on_stop_asked()

    def drained(self) -> bool:
        """Nothing is in flight, and every caller has taken what was for him."""
        return (
            not self.transactions.live
            and not self.rota.waiting
            and (self.peers is None or not self.peers.busy)
            and not any(session.channel.pending for session in self.sessions if not self.tail.follows(session.channel))
        )

    def end_all(self) -> None:
        """The time to drain is over: what is in flight ends with an error, and routes send nothing more."""
        self.ending = True
        self.abort_each([transaction.id for transaction in self.transactions], ABORTED, "the daemon is stopping")
        if self.peers is not None:
            self.peers.offers.end_all()


def _nobody(*_: int) -> None:
    """Who is told of something before anybody asked to be."""


def _go_on(_timer: Any) -> None:
    """Keeps the loop from waiting: the next turn has something to do."""
