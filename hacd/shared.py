"""A body in shared memory: a sealed memfd, known by its descriptor.

Law: whoever holds one lets go of it exactly once, by `release`, whatever becomes of its reply.
The maker seals it before it goes anywhere: what is in it stays as it is, whoever maps it.
"""

from __future__ import annotations

import array
import errno
import fcntl
import mmap
import os
import socket
import struct
import termios
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

#: No more and no fewer bytes, no other bytes, and no change to that.
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

#: bodies in files, and callers who have an arena, of all workers together: each costs a descriptor
BODIES, ARENAS = 512, 128

#: Replies that a front offers to others at a time. Each costs it two descriptors until it is on its way, and one from
#: then on; and what another offers comes with one each, as many as a read brings.
TICKETS = 256
OFFERING = 3 * TICKETS

#: descriptors that one sendmsg takes (SCM_MAX_FD of the kernel is 253)
BATCH = 250

_SPACE = socket.CMSG_SPACE(253 * array.array("i").itemsize)

# Plain integers: a flag of an enum costs a µs each time that it is combined.
_CLOEXEC, _CTRUNC = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)


class Shared:
    """A descriptor of such a body and its `size`. `on_release(size)` is told when it is let go of."""

    __slots__ = ("_on_release", "fd", "size")

    def __init__(self, fd: int, size: int, on_release: Callable[[int], None] | None = None) -> None:
        self.fd = fd
        self.size = size
        self._on_release = on_release

    def release(self) -> None:
        """Let go of it. To do so again does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            if self._on_release is not None:
                self._on_release(self.size)

    def read(self) -> bytes:
        """A copy of the body. Raises OSError."""
        data = os.pread(self.fd, self.size, 0)
        if len(data) != self.size:
            raise OSError(errno.EIO, f"{len(data)} bytes of {self.size} are there")
        return data


def create() -> int:
    """The descriptor of an empty memfd that can be sealed. Raises OSError."""
    return os.memfd_create("hacd-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def seal(fd: int) -> None:
    """From here on it stays as it is. Raises OSError."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)


def send(sock: socket.socket, data: memoryview, bodies: deque[Shared]) -> int:
    """Send some of `data`, and with its first byte the descriptors of `bodies`, which are let go of.

    With more than BATCH only the first byte goes, and BATCH of them. Raises as `socket.send`.
    """
    batch = [body.fd for _, body in zip(range(BATCH), bodies, strict=False)]
    part = data if len(batch) == len(bodies) else data[:1]
    sent = sock.sendmsg([part], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", batch))])
    for _ in batch:
        bodies.popleft().release()
    return sent


def receive(sock: socket.socket, buffer: bytearray, descriptors: deque[int], flags: int = 0) -> int:
    """As `socket.recv_into`; descriptors that came along are appended. Raises OSError.

    EMFILE: some were lost for want of room in this process. Which, nobody can tell: the
    connection is out of step from there on.
    """
    size, ancillary, told, _ = sock.recvmsg_into((buffer,), _SPACE, flags | _CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            came = array.array("i")
            came.frombytes(data[: len(data) - len(data) % came.itemsize])
            descriptors += came
    if told & _CTRUNC:
        raise OSError(errno.EMFILE, "no descriptor is left for a body")
    return size


def unread(sock: socket.socket) -> int:
    """What of that which was sent the peer has not read; 0 when it has read all."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(size)


#: bodies that one process keeps as descriptors; past it they are read at once
UNREAD = 128

_unread: set[int] = set()


class Body(ABC):
    """A body as a client has it: in shared memory until it is read or mapped, by whichever thread comes first."""

    __slots__ = ("_bytes", "_lock", "_view", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._bytes: bytes | None = None
        self._view: memoryview | None = None

    def read(self) -> bytes:
        """The body as bytes; the same ones each time."""
        with self._lock:
            if self._bytes is None:
                self._bytes = self._copy() if self._view is None else bytes(self._view)
                self._view = None
                self._let_go()
            return self._bytes

    def view(self) -> memoryview:
        """The body where it lies. The mapping lasts as long as a view of it."""
        with self._lock:
            if self._bytes is not None:
                return memoryview(self._bytes)
            if self._view is None:
                self._view = self._map()
                self._let_go()
            return self._view

    @abstractmethod
    def _copy(self) -> bytes:
        """Its bytes. Raises OSError."""

    @abstractmethod
    def _map(self) -> memoryview:
        """It, mapped. Raises OSError."""

    @abstractmethod
    def _let_go(self) -> None:
        """It was read or mapped, or will never be. May be called more than once."""

    def __len__(self) -> int:
        return self.size

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (self.read(),)

    def __del__(self) -> None:
        self._let_go()


class InFile(Body):
    """A body in a file of its own. Of their descriptors a process keeps UNREAD."""

    __slots__ = ("_shared",)

    def __init__(self, fd: int, size: int) -> None:
        super().__init__(size)
        self._shared = Shared(fd, size)
        _unread.add(id(self))
        if len(_unread) > UNREAD:
            self.read()

    def _copy(self) -> bytes:
        return self._shared.read()

    def _map(self) -> memoryview:
        return memoryview(mmap.mmap(self._shared.fd, self.size, access=mmap.ACCESS_READ))

    def _let_go(self) -> None:
        _unread.discard(id(self))
        self._shared.release()
