"""Accepting: a listening socket on the loop, and what to do when no descriptor is left for a caller.

Law: callers do not get the last descriptors. Workers, and the bodies that they pass, have use for those.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from hacd import log
from hacd.loop import READABLE, Loop, Poll, Timer
from hacd.shared import ARENAS, BODIES

#: connections accepted at one wake-up, so that a rush of callers does not hold those who are there
RUSH = 64

#: seconds without accepting after the descriptors ran out
PAUSE = 0.1

#: Descriptors that callers leave, but no more than a quarter of all: for bodies and arenas, as many as workers may
#: pass. A worker that passes one when none is left is cut off, and could not dial again. So is another front:
#: where there are several, OFFERING are left as well.
SPARE = BODIES + ARENAS

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Calls `on_connection(socket)` for each connection. The socket is the supervisor's, and stays open there.

    `rush`: how many at one wake-up. Where other processes accept on it too, one that took all would leave them idle.
    `spare`: descriptors that are not for these.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_connection: Callable[[socket.socket], None],
        rush: int = RUSH,
        spare: int = 0,
    ) -> None:
        sock.setblocking(False)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        limited = spare and limit != resource.RLIM_INFINITY
        self._end = limit - min(spare, limit // 4) if limited else 0  # of the descriptors that may be theirs
        self._rush = rush
        self._sock = sock
        self._on_connection = on_connection
        self._poll = Poll(loop, sock.fileno())
        self._timer = Timer(loop)
        self.resume()

    def stop(self) -> None:
        """Accept no more. Who dials waits, as long as somebody holds the socket."""
        self._poll.stop()
        self._timer.stop()

    def resume(self, _timer: Any = None) -> None:
        """Accept, or go on accepting."""
        self._poll.start(READABLE, self._ready)

    def _ready(self, _handle: Any, _events: int | None, _error: int | None) -> None:
        for _ in range(self._rush):
            try:
                self._leave_spare()
                connection, _address = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                # The connection stays in the queue and the socket readable: without a pause, a busy loop.
                log.error("cannot accept: %s; trying again in %d ms", error.strerror, PAUSE * 1000)
                self._poll.stop()
                self._timer.start(self.resume, PAUSE, 0)
                return
            self._on_connection(connection)

    def _leave_spare(self) -> None:
        """Raise OSError where the next descriptor, the lowest that is free, is none of theirs."""
        if self._end:
            next_ = os.dup(self._sock.fileno())
            os.close(next_)
            if next_ >= self._end:
                raise OSError(errno.EMFILE, "the open files that are left are not for callers")
