"""stderr as it is found: a pipe, a terminal, a socket, a file.

Law: nothing here waits, however little is read at the other end, and nothing of what is shared with
other processes is changed: O_NONBLOCK is set on a description of hacd's own, or not at all.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable

#: of stdio.h
STDERR = 2

#: bytes that a pipe takes whole or not at all
PIPE_BUF = select.PIPE_BUF

#: takes bytes: how many of them, or raises OSError
Put = Callable[[bytes], int]


class Stream:
    """An open descriptor that is written to without waiting. `whole`: bytes that it takes as one piece, 0 for any."""

    def __init__(self, fd: int = STDERR) -> None:
        """Raises OSError where nothing is open there."""
        mode = os.fstat(fd).st_mode
        waits = stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))
        self.whole = PIPE_BUF if waits else 0
        self._socket = socket.socket(fileno=os.dup(fd)) if stat.S_ISSOCK(mode) else None
        self._fd = -1
        self._asks = False  # whether there is room has to be asked for
        if self._socket is None:
            self._open(fd, waits)

    def _open(self, fd: int, waits: bool) -> None:
        if waits:
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                self._asks = True  # another user's, or nobody reads any more
        if self._fd < 0:
            self._fd = os.dup(fd)

    def write(self, data: bytes) -> None:
        """Raises OSError where it is not taken, or not as a whole."""
        if self._socket is not None:
            # The flag goes with the call: whoever else has this socket waits as before.
            taken = self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        elif self._asks and not self._has_room():
            raise BlockingIOError
        else:
            taken = os.write(self._fd, data)
        if taken < len(data):
            raise OSError(0, "a line was cut short")

    def _has_room(self) -> bool:
        """A pipe with room has a page of it, which is PIPE_BUF."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close what is this object's own."""
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)
