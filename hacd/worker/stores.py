"""Where a body comes to lie in shared memory: in a file of its own, or in a block of an arena.

Law: what a store took of `Memory` it gives back by `let_go`, unless `finish` handed it to the front.
"""

from __future__ import annotations

import os

from hacd import shared
from hacd.arena import Block
from hacd.shared import Shared
from hacd.worker.arena import Arena
from hacd.worker.memory import Memory


class File:
    """A memfd, whose descriptor is passed on. It is written in pieces, each a system call."""

    __slots__ = ("_fd", "_memory", "_taken", "written")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._fd = -1
        self._taken = 0  # bytes that `memory` counts
        self.written = 0

    def write(self, data: bytearray) -> bool:
        """Append; False if there is no room."""
        size = len(data)
        if not self._memory.take(size, not self._taken):
            return False
        self._taken += size
        try:
            if self._fd < 0:
                self._fd = shared.create()
            if os.write(self._fd, data) < size:
                return False
        except OSError as error:
            self._memory.failed(error)
            return False
        self.written += size
        return True

    def finish(self) -> Shared | None:
        """The body, sealed: it stays counted until the front gives it back. None where it cannot be sealed."""
        try:
            shared.seal(self._fd)
        except OSError as error:
            self._memory.failed(error)
            return None
        body = Shared(self._fd, self.written)
        self._fd, self._taken = -1, 0
        return body

    def read(self) -> bytes:
        """What was written."""
        return os.pread(self._fd, self.written, 0) if self.written else b""

    def let_go(self) -> None:
        """The body is not wanted, or is elsewhere."""
        if self._fd >= 0:
            os.close(self._fd)
        if self._taken:
            self._memory.give_back(self._taken)
        self._fd, self._taken = -1, 0


class OpenBlock:
    """A block into which a body comes: bytes of `view` from `begin` to `end`, which whoever has it writes."""

    __slots__ = ("_arena", "_memory", "begin", "end", "view")

    def __init__(self, memory: Memory, arena: Arena, begin: int, most: int) -> None:
        """`begin`: of a block that was taken. `most`: bytes that it is to hold at the most."""
        self._memory = memory
        self._arena = arena
        self.view = arena.view
        self.begin = begin
        self.end = begin + min(arena.blocks.length(begin), most)

    def finish(self, end: int) -> Block:
        """The body up to `end`, which is the front's from here on."""
        return Block(self._arena.lend(self.begin, end), self._arena.number, self.begin, self._memory.returned)

    def let_go(self) -> None:
        """The body is not wanted, or is elsewhere."""
        self._memory.free(self._arena, self.begin)
