"""Which bytes of an arena are taken: in blocks, each of which is as long as a power of two.

It knows numbers alone, and nothing of the memory behind them. Law: no byte is in two blocks; and each that was in one
counts as resident until `trim`.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable

#: bytes of a block at the least
LEAST = 4 * mmap.PAGESIZE

#: free blocks that are looked at for each that came back, where none is long enough
WORTH = 32

#: how many times what is free may all that is resident be, for that to be given back
SLACK = 32


class Blocks:
    """The blocks of one arena: they are taken and given back, and known by where they begin."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of them all, at the least: it is a power of two, too."""
        self.size = max(LEAST, 1 << (size - 1).bit_length())
        self.used = 0  # bytes of the blocks that are taken
        self.resident = 0  # bytes that may take the machine's memory: what was taken once, and not trimmed since
        self.idle = 0  # looks since one was taken
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
        if begin >= 0:
            if untouched := self._untouched(begin, length):
                self.resident += untouched
                self._touch(begin, length, b"\1")
            self._note(begin, length)
        return begin

    def take_resident(self, size: int) -> int:
        """The common case, in a third of the time: a block of just that length, if the one that came back last is
        resident; else -1."""
        length = max(LEAST, 1 << (size - 1).bit_length())
        free = self._free.get(length)
        if not free or self._untouched(free[-1], length):
            return -1
        begin = free.pop()
        self._note(begin, length)
        return begin

    def _note(self, begin: int, length: int) -> None:
        """That block is taken."""
        self._lengths[begin] = length
        self.used += length
        self._peak = max(self._peak, self.used)

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
        """Bytes of the block that begins there. Raises KeyError where none was taken."""
        return self._lengths[begin]

    def give_back(self, begin: int) -> None:
        """The block that begins there is free again. Raises KeyError where none was taken."""
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

    def look(self) -> int:
        """To be called about once a second: the most bytes that were taken at once since the last look."""
        peak, self._peak = self._peak, self.used
        self.idle = 0 if peak else self.idle + 1
        return peak

    @property
    def slack(self) -> bool:
        """Whether so much of what is resident is free that `trim` is worth its time."""
        return (self.resident - self.used) * SLACK > self.resident

    def trim(self, remove: Callable[[int, int], None]) -> None:
        """Call `remove(begin, length)` for each free block that has something resident, and it has nothing any more.

        Raises what that does.
        """
        self._merge()
        for length, free in self._free.items():
            for begin in free:
                untouched = self._untouched(begin, length)
                if untouched < length:
                    remove(begin, length)
                    self.resident -= length - untouched
                    self._touch(begin, length, b"\0")
