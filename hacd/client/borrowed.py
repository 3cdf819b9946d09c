"""Bodies as a client has them that lie in an arena: memory that a worker and this connection share.

Law: a body is returned once nothing can read it there any more: it was copied, or it and all views of it are gone.
What is in its place then is another body. A fork has its own of all that was not returned.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
import weakref
from collections import deque
from contextlib import ExitStack
from typing import Any

from hacd.shared import Body

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mremap.restype = ctypes.c_void_p
_libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)

#: MREMAP_MAYMOVE and MREMAP_FIXED of linux/mman.h
_MOVE = 1 | 2

_FAILED = ctypes.c_void_p(-1).value


def _checked(address: Any) -> int:
    """What mmap or mremap returned. Raises OSError."""
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def _mapped(size: int, protection: int, flags: int, fd: int) -> int:
    return _checked(_libc.mmap(None, size, protection, flags, fd, 0))


class _Map:
    """All of an arena, to be read. Of Python's own maps ctypes exports a part only where it could be written."""

    def __init__(self, fd: int, size: int) -> None:
        """Raises OSError."""
        self.size = size
        self.address = 0
        self.address = _mapped(size, mmap.PROT_READ, mmap.MAP_SHARED, fd)

    def keep(self, begin: int, size: int) -> None:
        """Have a copy stand at that place of this mapping, and at once, for who is reading. Raises OSError."""
        whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        copy = _mapped(whole, protection, flags, -1)
        ctypes.memmove(copy, self.address + begin, size)
        try:
            _checked(_libc.mremap(copy, whole, whole, _MOVE, self.address + begin))
        except OSError:
            _libc.munmap(copy, whole)
            raise

    def __del__(self) -> None:
        if self.address:
            _libc.munmap(self.address, self.size)


class ClientArena:
    """An arena of this connection's: `number`, as the daemon has it. `returned` gets what is to be returned."""

    def __init__(self, number: int, size: int, fd: int, returned: deque[tuple[int, int]]) -> None:
        self.number = number
        self._size = size
        self._fd = fd
        self._returned = returned
        # By where they begin: bodies that are neither read nor mapped, and of the others the mapping and their sizes.
        self._unread: dict[int, weakref.ref[Borrowed]] = {}
        self._viewed: dict[int, tuple[_Map, int]] = {}
        self._map: _Map | None = None  # what comes from now on is read in
        self._mapping = threading.Lock()
        _arenas.add(self)

    def body(self, begin: int, size: int) -> Borrowed:
        """The body that came to be there."""
        body = Borrowed(self, begin, size)
        self._unread[begin] = weakref.ref(body)
        return body

    def read(self, begin: int, size: int) -> bytes:
        """A copy of what is there. Raises OSError."""
        data = os.pread(self._fd, size, begin)
        if len(data) != size:
            raise OSError(errno.EIO, f"{len(data)} bytes of {size} are there")
        return data

    def view(self, begin: int, size: int) -> memoryview:
        """What is there. It is given back when no view of it is left. Raises OSError."""
        with self._mapping:
            if self._map is None:
                self._map = _Map(self._fd, self._size)
            map_ = self._map
        part: Any = (ctypes.c_char * size).from_address(map_.address + begin)
        part.owner = _Viewed(self, map_, begin)
        self._viewed[begin] = map_, size
        self._unread.pop(begin, None)
        return memoryview(part).toreadonly().cast("B")

    def give_back(self, begin: int) -> None:
        """What is there is not read any more."""
        self._unread.pop(begin, None)
        self._viewed.pop(begin, None)
        self._returned.append((self.number, begin))

    def keep(self) -> None:
        """Have what came where no worker writes. Raises OSError for the last that cannot be kept."""
        self._map = None  # it shows what it shows now, whatever comes to be there
        with ExitStack() as each:  # one that fails does not keep the others from it
            for begin in list(self._unread):
                each.callback(self._keep_unread, begin)
            for begin in list(self._viewed):
                each.callback(self._keep_viewed, begin)

    def _keep_unread(self, begin: int) -> None:
        ref = self._unread.get(begin)
        body = ref() if ref is not None else None
        if body is not None:
            body.read()

    def _keep_viewed(self, begin: int) -> None:
        viewed = self._viewed.pop(begin, None)
        if viewed is not None:
            map_, size = viewed
            map_.keep(begin, size)

    def __del__(self) -> None:
        os.close(self._fd)


class _Viewed:
    """What a mapped body keeps: its arena's mapping, and the word that it is not read any more."""

    __slots__ = ("_arena", "_begin", "_map")

    def __init__(self, arena: ClientArena, map_: _Map, begin: int) -> None:
        self._arena = arena
        self._map = map_
        self._begin = begin

    def __del__(self) -> None:
        self._arena.give_back(self._begin)


_arenas: weakref.WeakSet[ClientArena] = weakref.WeakSet()


def _fork() -> None:
    """The child does not know when this process returns what it has, too."""
    with ExitStack() as each:
        for arena in list(_arenas):
            each.callback(arena.keep)


os.register_at_fork(before=_fork)


class Borrowed(Body):
    """A body in an arena, until it is read or mapped."""

    __slots__ = ("__weakref__", "_arena", "_begin")

    def __init__(self, arena: ClientArena, begin: int, size: int) -> None:
        super().__init__(size)
        self._arena: ClientArena | None = arena
        self._begin = begin

    def _copy(self) -> bytes:
        assert self._arena is not None  # no more than once
        return self._arena.read(self._begin, self.size)

    def _map(self) -> memoryview:
        assert self._arena is not None  # no more than once
        view = self._arena.view(self._begin, self.size)
        self._arena = None  # it is the view that gives it back
        return view

    def _let_go(self) -> None:
        arena, self._arena = self._arena, None
        if arena is not None:
            arena.give_back(self._begin)
