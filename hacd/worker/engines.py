"""The engines of a worker: one, or more where much is in flight.

libcurl looks for a connection that can be used among all that lead to an origin, used ones too: with thousands of them
that takes longer than all else. So an engine has `MOST` transfers, and what comes beyond goes to the next.

Law: the first engine that has room gets a query, so that a quiet worker has one, and its connections are used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pycurl

from hacd.ledger import Ledger
from hacd.loop import Loop
from hacd.outcome import COULDNT_CONNECT
from hacd.settings import Settings
from hacd.worker.engine import Engine, Report, Share
from hacd.worker.memory import Memory
from hacd.worker.room import CONNECTIONS, descriptors, transfers
from hacd.worker.sockets import Watches
from hacd.worker.transfer import refused

#: transfers of one engine, as long as there may be others
MOST = 128

#: connections that an engine beside the first keeps, used or not
KEPT = 2 * MOST

#: engines at the most, and looks that one may be idle
ENGINES, IDLE = 64, 60


class Engines:
    """Carries jobs out. `report` is called once for each that was started and not cancelled."""

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        report: Report,
        ledger: Ledger,
        on_batch: Callable[[], None],
        watches: Watches | None = None,
    ) -> None:
        """`on_batch` is called between two outcomes of many that one turn of the loop brings: they may leave.

        `watches`: where others in this process have engines too, the table that they share.
        """
        self.memory = Memory(settings)
        self._share = Share(report, self.memory, ledger, on_batch)
        self._watches = watches or Watches(loop)
        self._watches.pace.add(self)
        self.wait_begins = self._watches.wait_begins
        self.settle = self._watches.settle
        self._settings = settings
        fronts = settings.hacd.fronts  # each of which has engines here, and its share of the descriptors
        self._most = max(1, min(ENGINES, 1 + (descriptors() - CONNECTIONS) // KEPT) // fronts)
        self._bound = transfers() // fronts
        least = max(KEPT, CONNECTIONS // fronts)
        self._first = self._current = Engine(self._watches, settings, least, self._share)
        self._all = [self._first]
        self._idle = 0  # looks since the last of them had something to do
        self.held = False  # until `go_on`

    def configure(self, settings: Settings, prefix: str) -> None:
        """These settings hold for transfers that begin from now on. `prefix`: of ids, in the log."""
        self._settings = settings
        self._share.prefix = prefix
        self.memory.configure(settings)
        for engine in self._all:
            engine.configure(settings)

    @property
    def in_flight(self) -> int:
        """Transfers that have not ended."""
        return sum(engine.in_flight for engine in self._all)

    def start(self, job: list[Any], now: int) -> None:
        """Begin a transfer; `now` in ns. What libcurl refuses is reported as that job's outcome."""
        if self._current.in_flight >= MOST or self._current is not self._first:
            engine = self._with_room()
            if engine is None:
                self._refuse(job)
                return
            self._current = engine
        self._current.start(job, now)

    def _refuse(self, job: list[Any]) -> None:
        """Each transfer may need a descriptor: libcurl would find that out with each, and hold the loop meanwhile."""
        why = f"no descriptor left for another transfer: {self._bound} are in flight (limit of open files)"
        self._share.report(job[0], *refused(pycurl.error(COULDNT_CONNECT, why), job[1]))

    def _with_room(self) -> Engine | None:
        """The first engine that has room, or a new one, or the least busy; None where no transfer can be begun."""
        for engine in self._all:
            if engine.in_flight < MOST:
                return engine
        if len(self._all) >= self._most:
            return min(self._all, key=_load) if self.in_flight < self._bound else None
        engine = Engine(self._watches, self._settings, KEPT, self._share)
        if self.held:
            engine.hold()
        self._all.append(engine)
        return engine

    def cancel(self, id_: int) -> None:
        """Call a transfer off, if it still runs; nothing is reported."""
        for engine in self._all:
            if engine.cancel(id_):
                return

    def cancel_all(self) -> None:
        """Nobody waits any more."""
        for engine in self._all:
            engine.cancel_all()

    def look(self) -> None:
        """To be called about once a second: what a peak left behind goes."""
        for engine in self._all:
            engine.look()
        self._idle = 0 if self._all[-1].in_flight else self._idle + 1
        if self._idle > IDLE and len(self._all) > 1:
            self._all.pop().retire()
            self._current = self._first

    def hold(self) -> None:
        """Take nothing more of any origin, and report nothing, until `go_on`: what was reported is not read."""
        self.held = True
        for engine in self._all:
            engine.hold()

    def go_on(self) -> None:
        """What was reported is read."""
        self.held = False
        for engine in self._all:
            if not self.held:  # what this reports may be too much again
                engine.go_on()

    def tick(self) -> None:
        """Do what there is to do before the loop waits; while it is held, nothing."""
        for engine in self._all:
            if not self.held and (engine.has_work or engine is self._first):
                engine.tick()
        self._watches.pace.turned()

    def slow_down(self) -> None:
        """The turn took too long: those who had more than their share of it wait."""
        for engine in self._all:
            engine.slow_down()

    def close(self) -> None:
        """End without a report."""
        for engine in self._all:
            engine.close()


def _load(engine: Engine) -> int:
    return engine.in_flight
