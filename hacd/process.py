"""What every child process has in common: its name, its signals, its line to the supervisor.

The line is a socket pair. A child says READY and STOP over it; the supervisor says DRAIN and
END. That it breaks tells the child that the supervisor is gone: a child that nobody watches
drains, and ends. SIGTERM to a child means DRAIN: sent to all of the daemon's processes at
once, it has the same effect as sent to the supervisor alone.
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
from hacd.words import END

#: Objects made between two runs of the cyclic collector. A query makes no cycle; at the
#: default of 700 the collector would run every few wake-ups and find nothing.
GC_THRESHOLD = 100_000


def title(name: str) -> None:
    """What `ps` shows."""
    setproctitle.setproctitle(f"hacd: {name}")


class Child:
    """A child process's own side: signals and the line to the supervisor.

    `on_drain()` is called for DRAIN, for SIGTERM, and when the supervisor is gone, and may be
    called again; `on_end()` for END.
    """

    def __init__(
        self, loop: Loop, line: socket.socket, on_drain: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        self._line = line
        self._on_drain = on_drain
        self._on_end = on_end
        # The terminal's Ctrl-C goes to the whole group; what it means is the supervisor's to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        self._on_drain()

    def _heard(self, _handle: Any, _events: int | None, _error: int | None) -> None:
        try:
            words = self._line.recv(16)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if END in words:
            self._on_end()
        elif words:
            self._on_drain()
        else:
            self._poll.close()
            log.warning("the supervisor is gone")
            self._on_drain()
