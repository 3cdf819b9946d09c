"""What every child process has in common: its name, its signals, its line to the supervisor.

The line is a socket pair. A child says `ready` and `stop` over it; that it breaks tells the
child that the supervisor is gone, and a child that nobody watches ends.
"""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable
from typing import Any

import setproctitle

from hacd import log
from hacd.loop import READABLE, Loop, Poll, Signal

READY = b"R"
STOP = b"S"

#: Objects made between two runs of the cyclic collector. A query makes no cycle; at the
#: default of 700 the collector would run every few wake-ups and find nothing.
GC_THRESHOLD = 100_000


def title(name: str) -> None:
    """What `ps` shows."""
    setproctitle.setproctitle(f"hacd: {name}")


class Child:
    """A child process's own side: signals and the line to the supervisor.

    `on_stop()` is called for each SIGTERM, and when the supervisor is gone.
    """

    def __init__(self, loop: Loop, line: socket.socket, on_stop: Callable[[], None]) -> None:
        self._line = line
        self._on_stop = on_stop
        # The terminal's Ctrl-C goes to the whole group; what it means is the supervisor's to say.
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(ignored, signal.SIG_IGN)
        self._term = Signal(loop)
        self._term.start(self._terminated, signal.SIGTERM)
        line.setblocking(False)
        self._poll = Poll(loop, line.fileno())
        self._poll.start(READABLE, self._heard)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)

    def say(self, word: bytes) -> None:
        """Tell the supervisor READY or STOP."""
        try:
            self._line.send(word)
        except OSError as error:
            log.warning("the supervisor does not listen: %s", error.strerror)

    def _terminated(self, _handle: Any, _signum: int) -> None:
        self._on_stop()

    def _heard(self, _handle: Any, _events: int | None, _error: int | None) -> None:
        try:
            if self._line.recv(16):
                return
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("line to the supervisor: %s", error.strerror)
        self._poll.close()
        log.warning("the supervisor is gone")
        self._on_stop()

    def close(self) -> None:
        """Give the handles back."""
        for handle in (self._term, self._poll):
            if not handle.closed:
                handle.close()
        self._line.close()
