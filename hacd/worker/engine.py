"""An engine: a CurlMulti on the loop. A worker has one, or several where much is in flight: see `engines`.

Law: curl's callbacks record; the tick acts. A tick runs once each time before the loop waits:
it lets curl do what is due, takes out what is done, and sets the timer to what comes next.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pycurl

from hacd import log
from hacd.ledger import Ledger
from hacd.loop import Timer
from hacd.outcome import ABORTED, Outcome
from hacd.settings import Settings
from hacd.worker.guard import Denied
from hacd.worker.logins import has_user_info
from hacd.worker.memory import Memory
from hacd.worker.room import Room
from hacd.worker.setup import SetUp, Shape
from hacd.worker.sockets import BATCH, Sockets, Watches
from hacd.worker.transfer import Transfer, denied, refused, text
from hacd.worker.turns import Turns

#: rounds of curl's in one tick, when each leaves something for at once
ROUNDS = 8

#: s that the end of a multi is waited for: libcurl waits there for its resolver's threads, and one may hang
CLOSING = 0.1

#: a number, since `b"@" in url` takes seven times as long: 140 ns and not 20
AT = ord("@")

#: `(id, code, outcome)` of a transfer that has ended
Report = Callable[[int, int, Outcome], None]


@dataclass
class Share:
    """What all engines of a worker have together. `on_batch`: outcomes may leave, although the turn is not over."""

    report: Report
    memory: Memory
    ledger: Ledger
    on_batch: Callable[[], None]
    prefix: str = ""  # of ids, as the front says

    def public_id(self, id_: int) -> str:
        """An id as callers and the log have it; "" for a handle that carries no query out."""
        return self.prefix + hex(id_)[2:] if id_ else ""


class Engine:
    """Carries jobs out. `report` is called once for each that was started and not cancelled."""

    def __init__(self, watches: Watches, settings: Settings, least: int, share: Share) -> None:
        """`least`: connections that it keeps in any case."""
        self._set_up = SetUp(settings)
        self._egress = settings.egress
        self._mixed = False  # the multi has connections that were made by other rules
        self._report = share.report
        self._share = share
        self._watches = watches
        self._least = least
        self._timer = Timer(watches.loop)
        self._active: dict[int, Transfer] = {}
        self._by_curl: dict[pycurl.Curl, Transfer] = {}
        self._idle: OrderedDict[Shape, list[Transfer]] = OrderedDict()  # no list is empty; last used, last
        self._idle_count = 0
        self._turns = Turns()
        self._due: float | None = None
        self.held = False  # until `go_on`
        self._ends: deque[tuple[int, int, str | None]] = deque()  # that came while it was held: id, code, error
        self._make_multi()

    def configure(self, settings: Settings) -> None:
        """These settings hold for transfers that begin from now on. Handles that are set up otherwise go."""
        self._mixed = self._mixed or settings.egress != self._egress
        self._egress = settings.egress
        if self._mixed and not self._active:
            self.close()
            self._make_multi()  # and so no connection is left that was made by other rules
        self._set_up = SetUp(settings, self._mixed)
        self._shed(0)

    def _make_multi(self) -> None:
        self._mixed = False
        self._watches.settle()  # libcurl opens a descriptor of its own for it
        self._multi = pycurl.CurlMulti()
        self._sockets = Sockets(self._watches, self._multi)
        self._sockets.on_batch = self._batch
        self._sockets.is_paused = self._turns.has
        self._room = Room(self._multi, self._least)

    @property
    def in_flight(self) -> int:
        """Transfers that have not ended."""
        return len(self._active)

    @property
    def has_work(self) -> bool:
        """Whether a tick has something to do: transfers, or a multi that failed while it had none."""
        return bool(self._active) or self._sockets.failed

    def start(self, job: list[Any], now: int) -> None:
        """Begin a transfer; `now` in ns. What libcurl refuses is reported as that job's outcome."""
        logs_in = job[7] is not None or (AT in job[1] and has_user_info(job[1]))
        try:
            transfer = self._handle((job[5], job[4] is not None), logs_in)
        except pycurl.error as error:
            self._report(job[0], *refused(error, job[1]))
            return
        try:
            transfer.prepare(job, now)
            self._multi.add_handle(transfer.curl)
        except (pycurl.error, Denied) as error:
            outcome = denied(str(error), text(job[1])) if isinstance(error, Denied) else refused(error, job[1])
            self._report(job[0], *outcome)
            self._discard(transfer)
            return
        self._active[transfer.id] = transfer
        if len(self._active) > self._room.enough:
            self._room.grow(len(self._active))

    def _handle(self, shape: Shape, logs_in: bool) -> Transfer:
        """A handle for a query of that shape: one that was kept, but for a login one of its own.

        For libcurl goes on with the method that an earlier origin wanted, and would send a password in
        the clear to one that was not asked. Making a handle takes 5 µs.
        """
        if shape in self._idle and not logs_in:
            return self._idle_handle(shape)
        share = self._share
        transfer = Transfer(
            shape, self._set_up, self._sockets.open, share.public_id, share.memory, share.ledger, self._turns
        )
        transfer.logs_in = logs_in
        self._by_curl[transfer.curl] = transfer
        return transfer

    def _idle_handle(self, shape: Shape) -> Transfer:
        handles = self._idle[shape]
        transfer = handles.pop()
        if not handles:
            del self._idle[shape]
        self._idle_count -= 1
        return transfer

    def _keep(self, transfer: Transfer) -> None:
        """Keep the handle for the next query of its shape; of too many, drop one of the shape used longest ago."""
        transfer.release()
        is_paused = self._turns.knows(transfer.curl)  # and would stay so
        if transfer.set_up is not self._set_up or transfer.logs_in or is_paused:
            self._discard(transfer)
            return
        self._idle.setdefault(transfer.shape, []).append(transfer)
        self._idle.move_to_end(transfer.shape)
        self._idle_count += 1
        if self._idle_count > self._room.handles:
            self._shed(self._room.handles)

    def _shed(self, most: int) -> None:
        """Keep no more handles than that: those of the shapes used longest ago go."""
        while self._idle_count > most:
            self._discard(self._idle_handle(next(iter(self._idle))))

    def _discard(self, transfer: Transfer) -> None:
        del self._by_curl[transfer.curl]
        self._turns.forget(transfer.curl)
        transfer.close()

    def cancel(self, id_: int) -> bool:
        """Call a transfer off, if it runs here; nothing is reported."""
        transfer = self._active.pop(id_, None)
        if transfer is None:
            return False
        self._multi.remove_handle(transfer.curl)
        self._keep(transfer)
        return True

    def cancel_all(self) -> None:
        """Nobody waits any more."""
        for id_ in list(self._active):
            self.cancel(id_)

    def look(self) -> None:
        """To be called about once a second: what a peak left behind goes."""
        self._room.look(len(self._active))
        self._shed(self._room.handles)

    # -- back-pressure

    def hold(self) -> None:
        """Take nothing more of any origin, and report nothing, until `go_on`: what was reported is not read.

        Meanwhile it is the front alone that keeps the deadlines.
        """
        self.held = True
        self._sockets.hold()

    def go_on(self) -> None:
        """What was reported is read."""
        self.held = False
        while self._ends and not self.held:
            id_, code, err = self._ends.popleft()
            transfer = self._active.get(id_)
            if transfer is not None:  # it was not cancelled meanwhile
                self._ended(transfer.curl, code, err)
        if not self.held:
            self._sockets.go_on()

    # -- what the loop brings

    def _expire(self, _timer: Any) -> None:
        self._due = None

    def tick(self) -> None:
        """Do what there is to do before the loop waits. Not to be called while it is held."""
        multi = self._multi
        wait = multi.timeout()
        for _ in range(1 if self._turns.going else ROUNDS):  # a slow one would take each of them
            if wait == 0:
                self._act_on_time()
            self._drain()
            if self._sockets.failed:
                self._rebuild()
                return
            if self.held:
                return
            wait = multi.timeout()
            if wait:
                break
        if self._turns.has_any:
            self._turns.go_on()
            wait = 0
        self._arm(wait)

    def slow_down(self) -> None:
        """The turn took too long: those who had more than their share of it wait."""
        if not self.held and not self._sockets.failed:
            self._turns.slow_down([transfer.curl for transfer in self._active.values()])
            self._arm(0)

    def _batch(self) -> None:
        """In the middle of a turn: what has ended so far is reported, and leaves."""
        if not self.held and not self._sockets.failed:
            self._drain()
            self._share.on_batch()

    def _act_on_time(self) -> None:
        """Let curl do what is due: begin what was added, end what takes too long."""
        try:
            self._sockets.act(pycurl.SOCKET_TIMEOUT, 0)
        except pycurl.error:
            self._sockets.failed = True

    def _drain(self) -> None:
        """Take out all that has ended: curl tells of it once only."""
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for count, curl in enumerate(done, 1):
                self._ended(curl, 0, None)
                if not count % BATCH:  # one read of HTTP/2 may end hundreds
                    self._share.on_batch()
                    if not self._active:
                        return  # the front has gone, and all was called off
            for curl, code, err in failed:
                if not self._tries_anew(curl, code):
                    self._ended(curl, code, err)

    def _tries_anew(self, curl: pycurl.Curl, code: int) -> bool:
        """A kept connection was not for this query, which has not begun: it begins, on one of its own."""
        if code != ABORTED or not self._by_curl[curl].tries_anew(code):
            return False
        self._multi.remove_handle(curl)
        self._multi.add_handle(curl)
        return True

    def _ended(self, curl: pycurl.Curl, code: int, err: str | None) -> None:
        transfer = self._by_curl[curl]
        if self.held:
            self._ends.append((transfer.id, code, err))
            return
        self._multi.remove_handle(curl)
        del self._active[transfer.id]
        self._report(transfer.id, *transfer.outcome(code, err))
        self._keep(transfer)

    def _arm(self, wait: int) -> None:
        """Wake up in `wait` ms (-1: curl waits for nothing). A timer that fires early does no harm."""
        if wait < 0:
            return
        due = time.monotonic() + wait / 1000
        if self._due is None or due < self._due:
            self._due = due
            self._timer.start(self._expire, wait / 1000, 0)

    def _rebuild(self) -> None:
        """`socket_action` failed: the multi's state is unknown. Every transfer ends, and it is made anew."""
        log.error("libcurl's multi failed with %d transfers in flight; made anew", len(self._active))
        lost = pycurl.error(2, "libcurl failed on another transfer")
        for transfer in list(self._active.values()):
            self._multi.remove_handle(transfer.curl)
            self._report(transfer.id, *refused(lost, transfer.url))
            self._discard(transfer)
        self._active.clear()
        self.close()
        self._make_multi()

    def retire(self) -> None:
        """It has carried out all that it had, and gets nothing more."""
        self.close()
        self._timer.close()

    def close(self) -> None:
        """End without a report. Handles first, then the multi: the other order has crashed libcurl."""
        for transfer in list(self._by_curl.values()):
            if transfer.id in self._active:
                self._multi.remove_handle(transfer.curl)
            self._discard(transfer)
        self._active.clear()
        self._ends.clear()
        self._idle.clear()
        self._idle_count = 0
        self._sockets.close()
        _let_go(self._multi)


def _let_go(multi: pycurl.CurlMulti) -> None:
    """End a multi, at the latest when the resolver has ended. What libcurl wants of its sockets meanwhile is over."""
    multi.setopt(pycurl.M_SOCKETFUNCTION, lambda *_: None)
    closing = threading.Thread(target=multi.close, daemon=True)
    closing.start()
    closing.join(CLOSING)
