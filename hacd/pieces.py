"""What is being written to a peer, where bodies in shared memory are in it or go along.

Law: every body that came in is let go of once: when the peer has it, or by `release`.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Iterable
from itertools import islice

from hacd import shared
from hacd.arena import Block
from hacd.shared import Shared

#: bytes that are written to one peer at one turn of the loop, if it reads as fast as that
TURN = 1 << 20

#: pieces that are written at once at the most
AT_ONCE = 64

#: descriptors that may lie unread at a peer's socket
MAX_PASSED = 128


class Pieces:
    """Bytes and bodies in their order, and descriptors that go with the first of the bytes."""

    def __init__(self) -> None:
        self.passing: deque[Shared] = deque()  # whose descriptors go, and not their bytes
        self._pieces: deque[memoryview | _FilePiece | _BlockPiece] = deque()
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
            if not isinstance(piece, memoryview):
                return piece.left
        return self.passing[0].size if self.passing else 0

    def go_along(self, bodies: Iterable[Shared]) -> None:
        """Append bodies whose descriptors go, and not their bytes."""
        for body in bodies:
            self.passing.append(body)
            self._owed += body.size

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, parts: Iterable[bytes | Shared | Block]) -> None:
        """Append. The first part of all is bytes."""
        run: list[bytes] = []
        for part in parts:
            if isinstance(part, bytes):
                run.append(part)
                self._bytes += len(part)
                continue
            self._add_run(run)
            self._pieces.append(_FilePiece(part) if isinstance(part, Shared) else _BlockPiece(part))
            self._owed += part.size
        self._add_run(run)

    def _add_run(self, run: list[bytes]) -> None:
        """Bytes that follow each other are one piece."""
        if run:
            self._pieces.append(memoryview(b"".join(run)))
            run.clear()

    def write(self, sock: socket.socket) -> None:
        """Write what the peer takes, and about TURN bytes at most. Raises OSError, BlockingIOError too."""
        room = TURN
        while self._pieces and room > 0:
            piece = self._pieces[0]
            if isinstance(piece, _FilePiece):
                room -= self._write_file(sock, piece, room)
            elif self.passing and isinstance(piece, memoryview):
                room -= self._sent(self._pass_on(sock, piece))
            else:
                room -= self._sent(sock.sendmsg(self._views(room)))

    def _write_file(self, sock: socket.socket, file: _FilePiece, room: int) -> int:
        sent = file.write(sock, room)
        self._owed -= sent
        if not file.left:
            self._pieces.popleft()
            file.body.release()
        return sent

    def _views(self, room: int) -> list[memoryview]:
        """The next pieces, up to one that is a file, or so many that they fill `room`."""
        views: list[memoryview] = []
        for piece in islice(self._pieces, AT_ONCE):
            if isinstance(piece, _FilePiece) or room <= 0:
                break
            view = piece if isinstance(piece, memoryview) else piece.rest
            views.append(view)
            room -= len(view)
        return views

    def _sent(self, sent: int) -> int:
        """So many bytes of the next pieces, of which none is a file, are written."""
        left = sent
        while left:
            piece = self._pieces[0]
            if isinstance(piece, memoryview):
                took = min(left, len(piece))
                self._bytes -= took
                rest = self._pieces[0] = piece[took:]
            else:
                assert isinstance(piece, _BlockPiece)
                took = min(left, piece.left)
                self._owed -= took
                rest = piece.rest = piece.rest[took:]
            if not rest:
                self._pieces.popleft()
                if isinstance(piece, _BlockPiece):
                    piece.body.release()
            left -= took
        return sent

    def _pass_on(self, sock: socket.socket, data: memoryview) -> int:
        before = sum(body.size for body in self.passing)
        sent = shared.send(sock, data, self.passing)
        self._owed -= before - sum(body.size for body in self.passing)
        return sent

    def release(self) -> None:
        """None of it will be written."""
        for piece in self._pieces:
            if not isinstance(piece, memoryview):
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


class _FilePiece:
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


class _BlockPiece:
    """A body that is written from where it lies. The kernel copies it: the block is used again."""

    __slots__ = ("body", "rest")

    def __init__(self, body: Block) -> None:
        self.body = body
        self.rest = body.view

    @property
    def left(self) -> int:
        return len(self.rest)
