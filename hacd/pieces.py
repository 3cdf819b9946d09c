"""What is being written to a peer, where bodies in shared memory are in it or go along.

Law: every body that came in is let go of once: when the peer has it, or by `release`.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Iterable

from hacd import shared
from hacd.shared import Shared

#: bytes that are written to one peer at one turn of the loop, if it reads as fast as that
TURN = 1 << 20

#: descriptors that may lie unread at a peer's socket
MAX_PASSED = 128


class Pieces:
    """Bytes and bodies in their order, and descriptors that go with the first of the bytes."""

    def __init__(self) -> None:
        self.passing: deque[Shared] = deque()  # whose descriptors go, and not their bytes
        self._pieces: deque[memoryview | _File] = deque()
        self._bytes = 0  # beside those of bodies
        self._owed = 0  # bytes of bodies that are to be written, or whose descriptors are to go

    @property
    def behind(self) -> int:
        """Bytes of the bodies behind the first: that one may be as long as it likes."""
        return self._owed - self._first() if self._owed else 0

    @property
    def left(self) -> int:
        """Bytes of all that is here."""
        return self._bytes + self._owed

    def _first(self) -> int:
        for piece in self._pieces:
            if isinstance(piece, _File):
                return piece.left
        return self.passing[0].size if self.passing else 0

    def go_along(self, bodies: Iterable[Shared]) -> None:
        """Append bodies whose descriptors go, and not their bytes."""
        for body in bodies:
            self.passing.append(body)
            self._owed += body.size

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, parts: Iterable[bytes | Shared]) -> None:
        """Append. The first part of all is bytes."""
        run: list[bytes] = []
        for part in parts:
            if isinstance(part, Shared):
                self._pieces += (memoryview(b"".join(run)), _File(part))
                self._owed += part.size
                run = []
            else:
                run.append(part)
                self._bytes += len(part)
        if run:
            self._pieces.append(memoryview(b"".join(run)))

    def write(self, sock: socket.socket) -> None:
        """Write what the peer takes, and about TURN bytes at most. Raises OSError, BlockingIOError too."""
        room = TURN
        while self._pieces and room > 0:
            piece = self._pieces[0]
            room -= self._write_file(sock, piece, room) if isinstance(piece, _File) else self._write_bytes(sock, piece)

    def _write_file(self, sock: socket.socket, file: _File, room: int) -> int:
        sent = file.write(sock, room)
        self._owed -= sent
        if not file.left:
            self._pieces.popleft()
            file.body.release()
        return sent

    def _write_bytes(self, sock: socket.socket, data: memoryview) -> int:
        sent = self._pass_on(sock, data) if self.passing else sock.send(data)
        self._bytes -= sent
        if sent == len(data):
            self._pieces.popleft()
        else:
            self._pieces[0] = data[sent:]
        return sent

    def _pass_on(self, sock: socket.socket, data: memoryview) -> int:
        before = sum(body.size for body in self.passing)
        sent = shared.send(sock, data, self.passing)
        self._owed -= before - sum(body.size for body in self.passing)
        return sent

    def release(self) -> None:
        """None of it will be written."""
        for piece in self._pieces:
            if isinstance(piece, _File):
                piece.body.release()
        self._pieces.clear()
        self._bytes = self._owed = 0
        while self.passing:
            self.passing.popleft().release()


class Passed:
    """Descriptors that the peer may not have read yet. How many, and of how many bytes, is bounded."""

    def __init__(self, sock: socket.socket, max_size: int) -> None:
        self._sock = sock
        self._max_size = max_size
        self._count = self._size = 0

    def add(self, size: int) -> None:
        """One more was passed on, of a body of that size."""
        self._count += 1
        self._size += size

    def may_be_followed(self, size: int, pending: bool) -> bool:
        """Whether one more may go. Where nothing is unread, and nothing `pending`, those before have been read."""
        if self._count and (self._count >= MAX_PASSED or self._size + size > self._max_size):
            if pending or shared.unread(self._sock):
                return False
            self._count = self._size = 0
        return True


class _File:
    """A body that is written from its descriptor: the kernel takes its pages as they are."""

    __slots__ = ("_sent", "body")

    def __init__(self, body: Shared) -> None:
        self.body = body
        self._sent = 0

    @property
    def left(self) -> int:
        return self.body.size - self._sent

    def write(self, sock: socket.socket, most: int) -> int:
        sent = os.sendfile(sock.fileno(), self.body.fd, self._sent, min(most, self.left))
        if not sent:
            raise OSError(errno.EIO, "a body is shorter than it was said to be")
        self._sent += sent
        return sent
