"""Memory that a worker shares with its front, or with one caller: bodies are put there, and read where they are.

Its pages are used again and again: the kernel takes longer to give a new one than to copy what comes to be in it. What
one body left behind is there under the next. So a caller who wants one has an arena of his own, which he can only read;
from the common one, which no caller sees, the front sends the bodies of all others.

Law: a block is the worker's until its outcome leaves, and lent from there until it has come back. An arena lives no
longer than the connection that it was made for: whoever has it mapped then may go on reading.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable

#: It stays as long as it is: what is mapped can be read.
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

#: F_SEAL_FUTURE_WRITE of linux/fcntl.h (5.1), for which Python 3.11 has no name: who maps it from now on can only read
FUTURE_WRITE = 0x10

#: bytes of a block at the least
LEAST = 4 * mmap.PAGESIZE

#: Free blocks that are looked at for each that came back, where none is long enough; and how many times what an arena
#: has may be as much as what is free in it, for that to be given back.
WORTH = 32

#: How a caller takes a long body: as bytes, which are sent from the common arena; as a file, of which he gets the
#: descriptor; and any number above that is one of an arena of his own.
COMMON, FILE = 0, 1


class Arena:
    """The worker's side: blocks of it are taken and given back. A block's length is a power of two."""

    def __init__(self, size: int, number: int = COMMON) -> None:
        """`size`: bytes that it may come to have. `number`: whose own it is. Raises OSError, ValueError."""
        self.size = max(LEAST, 1 << (size - 1).bit_length())
        self.number = number
        self.fd = -1
        self.fd = os.memfd_create("hacd-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, self.size)
        self._map = mmap.mmap(self.fd, self.size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, SEALS | (FUTURE_WRITE if number else 0))
        self.view = memoryview(self._map)
        self.used = 0  # bytes of the blocks that are taken
        self.resident = 0  # bytes that it may have of the machine's memory: what was taken once, and not trimmed since
        self.lent: set[int] = set()  # where blocks begin that are not the worker's
        self.left = False  # nothing more is to be put into it
        self.idle = 0  # looks since it had a block
        self._peak = 0  # of `used` since `look`
        self._lengths: dict[int, int] = {}  # of the blocks that are taken, by where they begin
        # Where free blocks begin, by their length. The last that came back is the first to go: it is in the caches.
        self._free: dict[int, list[int]] = {self.size: [0]}
        self._back = 0  # blocks that came back since `_merge`
        self._touched = bytearray(self.size // LEAST)  # 1 for each LEAST bytes that count as resident

    def take(self, size: int, most: int) -> int:
        """Where a block of at least `size` bytes begins; -1: none is free, or `resident` would be more than `most`."""
        length = max(LEAST, 1 << (size - 1).bit_length())
        begin = self._find(length, most)
        if begin < 0 and self._may_merge():
            self._merge()
            begin = self._find(length, most)
        if begin < 0:
            return -1
        self.resident += self._untouched(begin, length)
        self._touch(begin, length, b"\1")
        self._lengths[begin] = length
        self.used += length
        self._peak = max(self._peak, self.used)
        return begin

    def _find(self, length: int, most: int) -> int:
        """Take a free block, or the begin of one that is longer, out of the lists."""
        for each in sorted(self._free):
            free = self._free[each]
            for place in range(len(free) - 1, -1, -1) if each >= length else ():
                if self.resident + self._untouched(free[place], length) <= most:
                    return self._split(free.pop(place), each, length)
        return -1

    def _split(self, begin: int, each: int, length: int) -> int:
        while each > length:
            each >>= 1
            self._free.setdefault(each, []).append(begin + each)
        return begin

    def _untouched(self, begin: int, length: int) -> int:
        """Bytes of that range that are not resident."""
        return length - LEAST * self._touched.count(1, begin // LEAST, (begin + length) // LEAST)

    def _touch(self, begin: int, length: int, value: bytes) -> None:
        self._touched[begin // LEAST : (begin + length) // LEAST] = value * (length // LEAST)

    def length(self, begin: int) -> int:
        """Bytes of the block that begins there."""
        return self._lengths[begin]

    def lend(self, begin: int, end: int) -> memoryview:
        """What is in the block that begins there, which is somebody else's from here on."""
        self.lent.add(begin)
        return self.view[begin:end]

    def give_back(self, begin: int) -> None:
        """The block that begins there is free again. Raises KeyError where none was taken."""
        self.lent.discard(begin)
        length = self._lengths.pop(begin)
        self.used -= length
        self._free.setdefault(length, []).append(begin)
        self._back += 1

    def _may_merge(self) -> bool:
        """Whether so many blocks came back that it is worth its time: it looks at all that are free."""
        if not self._back:
            return False
        return not self.used or self._back * WORTH >= sum(map(len, self._free.values()))

    def _merge(self) -> None:
        """Make of two free halves the block that they were. Not at each `give_back`: the next wants a half again."""
        self._back = 0
        for length in sorted(self._free):
            free = set(self._free[length])
            for begin in sorted(free):
                other = begin ^ length
                if begin < other and other in free:
                    free -= {begin, other}
                    self._free.setdefault(length << 1, []).append(begin)
            self._free[length] = sorted(free, reverse=True)  # the lowest goes first

    def descriptor(self) -> int:
        """To be passed on, once: whoever takes it closes it. The mapping has one of its own."""
        fd, self.fd = self.fd, -1
        return fd

    def look(self) -> int:
        """To be called about once a second: the most bytes that were taken at once since the last look."""
        peak, self._peak = self._peak, self.used
        self.idle = 0 if peak else self.idle + 1
        return peak

    @property
    def slack(self) -> bool:
        """Whether so much is free of what it has of the machine's memory that `trim` is worth its time."""
        return (self.resident - self.used) * WORTH > self.resident

    def trim(self) -> None:
        """Give the system all that no block has. Raises OSError for one that is somebody's own: its seals forbid it."""
        self._merge()
        for length, free in self._free.items():
            for begin in free:
                if self._untouched(begin, length) < length:
                    self._map.madvise(mmap.MADV_REMOVE, begin, length)
                    self.resident -= length - self._untouched(begin, length)
                    self._touch(begin, length, b"\0")

    def close(self) -> None:
        """Nothing more is put into it. The mapping lasts as long as a view of it."""
        self.view.release()
        del self._map

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Block:
    """A body in an arena: where it begins, and a view of its bytes, until it is let go of."""

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
