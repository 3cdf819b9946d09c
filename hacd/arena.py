"""Memory that a worker shares with its front, or with one caller: bodies are put there, and read where they are.

Its pages are used again and again: the kernel takes longer to give a new one than to copy what comes to be in it. What
one body left behind is there under the next. So a caller who wants one has an arena of his own, which he can only read;
from the common one, which no caller sees, the front sends the bodies of all others.

Here stands what the rooms on both sides know of it. How a worker makes one and fills it is `worker/arena.py`.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

#: How a caller takes a long body: as bytes, which are sent from the common arena; as a file, of which he gets the
#: descriptor; and any number above that is one of an arena of his own.
COMMON, FILE = 0, 1


class Block:
    """A block with all of a body in it: where it begins, and a view of the body's bytes, until it is let go of."""

    __slots__ = ("_on_release", "begin", "number", "size", "view")

    def __init__(self, view: memoryview, number: int, begin: int, on_release: Callable[[int, int], None]) -> None:
        """`number`: of the arena. `on_release(number, begin)`: its worker may use that block again."""
        self.view = view
        self.number = number
        self.begin = begin
        self.size = len(view)
        self._on_release: Callable[[int, int], None] | None = on_release

    def release(self) -> None:
        """Let go of it. To do so again does nothing."""
        on_release, self._on_release = self._on_release, None
        if on_release is not None:
            self.view = _NOTHING
            on_release(self.number, self.begin)

    def read(self) -> bytes:
        """A copy of the body."""
        return bytes(self.view)


_NOTHING = memoryview(b"")


def mapped(fd: int, size: int) -> memoryview:
    """All of an arena's bytes, to be read. The mapping lasts as long as a view of it. Raises OSError, ValueError."""
    return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ))
