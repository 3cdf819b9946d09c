"""What every child process has in common: its name, its signals, its line to the supervisor, how it dials a front.

The line is a pair of sockets that keeps datagrams whole; `words.py` has what is said over it. That
it breaks tells the child that the supervisor is gone: a child that nobody watches drains, and ends.
SIGTERM to a child means DRAIN: sent to all of the daemon's processes at once, it has the same effect
as sent to the supervisor alone.
"""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import setproctitle

from hacd import log
from hacd.loop import READABLE, Loop, Poll, Signal
from hacd.words import ALL, DATAGRAM, DRAIN

#: what a child does when the supervisor says a word; takes what came with it
OnWord = Callable[[bytes], None]

#: Objects made between two runs of the cyclic collector. A query makes no cycle; at the
#: default of 700 the collector would run every few wake-ups and find nothing.
GC_THRESHOLD = 100_000


def title(name: str) -> None:
    """What `ps` shows."""
    setproctitle.setproctitle(f"hacd: {name}")


def dialled(path: str) -> socket.socket:
    """A connection to the front whose socket is there. Raises OSError.

    Law: whoever dials from a callback catches that, a lack of descriptors too: what a callback raises ends its process.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)  # else a full backlog holds us
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


class Child:
    """A child process's own side: signals and the line to the supervisor.

    `on_word` has a callback for each word that this child heeds. That of DRAIN is called for SIGTERM
    too, and, with ALL, when the supervisor is gone, and may be called again.
    """

    def __init__(self, loop: Loop, line: socket.socket, on_word: Mapping[bytes, OnWord]) -> None:
        self._line = line
        self._on_word = on_word
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

    def say(self, word: bytes, what: bytes = b"") -> None:
        """Tell the supervisor a word of `words.py`, and what belongs to it."""
        try:
            self._line.send(word + what)
        except OSError as error:
            log.warning("the supervisor does not listen: %s", error.strerror)

    def mention(self, word: bytes, what: bytes = b"") -> None:
        """The same of what may get lost: it is said again before long."""
        with suppress(OSError):
            self._line.send(word + what)

    def _terminated(self, _handle: Any, _signum: int) -> None:
        self._on_word[DRAIN](b"")

    def _heard(self, _handle: Any, _events: int | None, _error: int | None) -> None:
        try:
            said = self._line.recv(DATAGRAM)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._poll.close()
            log.warning("the supervisor is gone")
            self._on_word[DRAIN](ALL)
            return
        on_word = self._on_word.get(said[:1])
        if on_word is not None:
            on_word(said[1:])
