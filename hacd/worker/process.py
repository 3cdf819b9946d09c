"""The worker as a process: its loop, its fronts, and its end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from hacd import log, process
from hacd.flusher import Flusher
from hacd.ledger import Ledger
from hacd.log.entry import Entry
from hacd.loop import Loop
from hacd.settings import Settings
from hacd.trim import Trim
from hacd.words import DRAIN, END, REOPEN
from hacd.worker.fronts import FrontLink
from hacd.worker.sockets import Watches

#: s between two looks at memory that was let go of; a front asks for a sign of life as often
LOOK = 1.0


class WorkerProcess:
    """Carries out what its fronts ask for. `fronts`: of each the path of its socket, and its ledger."""

    def __init__(self, settings: Settings, line: socket.socket, fronts: list[tuple[str, Ledger]], number: int) -> None:
        self._loop = Loop()
        self._flusher = Flusher(self._loop)
        watches = Watches(self._loop)
        self._links = [
            FrontLink(
                self._loop, self._flusher, watches, settings, path, ledger, number, self._pinged, self._end_if_all
            )
            for path, ledger in fronts
        ]
        on_word: dict[bytes, process.OnWord] = {
            DRAIN: lambda _: self._drain(),
            END: lambda _: self._loop.stop(),
            REOPEN: lambda _: log.reopen(),
        }
        self._child = process.Child(self._loop, line, on_word)
        self._trim = Trim()
        self._next_trim = 0.0
        self._leaving = False
        log.pass_to(self._links[0].relay.take if len(self._links) == 1 else self._take_log)
        self._flusher.start(self._turn(), watches.wait_begins)

    def run(self) -> None:
        """Serve until stopped."""
        for link in self._links:
            link.dial()
        self._loop.run()
        for link in self._links:
            link.engines.close()

    def _turn(self) -> Callable[[], None]:
        """What is to be done once each time before the loop waits."""
        turns = [link.turn for link in self._links]
        if len(turns) == 1:
            return turns[0]

        def turn() -> None:
            for each in turns:
                each()

        return turn

    def _pinged(self) -> None:
        """A front asked for a sign of life: one of several, each of which does once a second."""
        if len(self._links) > 1:
            now = time.monotonic()
            if now < self._next_trim:
                return
            self._next_trim = now + LOOK / 2
        self._trim.look()

    def _take_log(self, event: Entry) -> None:
        """What is about a query is its own front's to pass on, which knows its route; the rest is for each."""
        for link in self._links:
            if event.id and event.id.startswith(link.prefix or " "):
                link.relay.take(event)
                return
        for link in self._links:
            link.relay.take(event)

    # -- the end

    def _drain(self) -> None:
        """Finish what is under way, and end."""
        if self._leaving:
            return
        self._leaving = True
        for link in self._links:
            link.leave()

    def _end_if_all(self) -> None:
        """A front has or needs nothing more of this worker."""
        if all(link.ended for link in self._links):
            self._loop.stop()


def main(settings: Settings, line: socket.socket, fronts: list[tuple[str, Ledger]], number: int) -> None:
    """A worker's life, from the fork to its end."""
    process.title(f"worker {number}")
    log.configure(f"worker {number}", settings.hacd)
    WorkerProcess(settings, line, fronts, number).run()
