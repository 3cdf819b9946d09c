"""Bodies as a client has them that lie in an arena: memory that a worker and this connection share.

Law: a body is returned once nothing can read it there any more: it was copied, or it and all views of it are gone.
What is in its place then is another body.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from functools import cached_property
from typing import Any

from hacd.shared import Body, Shared


class ClientArena:
    """An arena of this connection's: `number`, as the daemon has it. `returned` gets what is to be returned."""

    def __init__(self, number: int, size: int, fd: int, returned: deque[tuple[int, int]]) -> None:
        self.number = number
        self._size = size
        self._fd = fd
        self._returned = returned

    @cached_property
    def _map(self) -> mmap.mmap:
        # Private: ctypes exports a part of that alone which could be written. Nobody does, so it shows the arena.
        return mmap.mmap(self._fd, self._size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)

    def read(self, begin: int, size: int) -> bytes:
        """A copy of what is there. Raises OSError."""
        return os.pread(self._fd, size, begin)

    def view(self, begin: int, size: int) -> memoryview:
        """What is there. It is given back when no view of it is left. Raises OSError."""
        from ctypes import c_char  # 4 ms, for who has many long bodies

        part: Any = (c_char * size).from_buffer(self._map, begin)
        weakref.finalize(part, self.give_back, begin).atexit = False
        return memoryview(part).toreadonly().cast("B")

    def give_back(self, begin: int) -> None:
        """What is there is not read any more."""
        self._returned.append((self.number, begin))

    def __del__(self) -> None:
        os.close(self._fd)


class Borrowed(Body):
    """A body in an arena, until it is read or mapped."""

    __slots__ = ("_arena", "_begin")

    def __init__(self, arena: ClientArena, begin: int, size: int) -> None:
        super().__init__(Shared(-1, size))
        self._arena: ClientArena | None = arena
        self._begin = begin

    def _copy(self) -> bytes:
        assert self._arena is not None  # no more than once
        return self._arena.read(self._begin, self.size)

    def _map(self) -> memoryview:
        arena, self._arena = self._arena, None
        assert arena is not None
        return arena.view(self._begin, self.size)

    def _let_go(self) -> None:
        arena, self._arena = self._arena, None
        if arena is not None:
            arena.give_back(self._begin)
