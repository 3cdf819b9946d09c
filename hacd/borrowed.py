"""Bodies as a client has them that lie in an arena: memory that a worker and this connection share.

Law: a body is returned once nothing can read it there any more: it was copied, or it and all views of it are gone.
What is in its place then is another body.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque

from hacd.shared import Body, Shared


class ClientArena:
    """An arena of this connection's: `number`, as the daemon has it. `returned` gets what is to be returned."""

    def __init__(self, number: int, fd: int, returned: deque[tuple[int, int]]) -> None:
        self.number = number
        self.fd = fd
        self._returned = returned

    def give_back(self, begin: int) -> None:
        """What is there is not read any more."""
        self._returned.append((self.number, begin))

    def __del__(self) -> None:
        os.close(self.fd)


class Borrowed(Body):
    """A body in an arena, until it is read or mapped."""

    __slots__ = ("_arena", "_begin")

    def __init__(self, arena: ClientArena, begin: int, size: int) -> None:
        super().__init__(Shared(-1, size))
        self._arena: ClientArena | None = arena
        self._begin = begin

    def _copy(self) -> bytes:
        assert self._arena is not None  # no more than once
        return os.pread(self._arena.fd, self.size, self._begin)

    def _map(self) -> memoryview:
        arena, self._arena = self._arena, None
        assert arena is not None
        mapped = mmap.mmap(arena.fd, self.size, access=mmap.ACCESS_READ, offset=self._begin)
        weakref.finalize(mapped, arena.give_back, self._begin).atexit = False
        return memoryview(mapped)

    def _let_go(self) -> None:
        arena, self._arena = self._arena, None
        if arena is not None:
            arena.give_back(self._begin)
