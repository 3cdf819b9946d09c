"""An arena as its worker has it: a memfd, its mapping, and the blocks in which bodies are put there.

Law: a block is the worker's until its outcome leaves, and lent from there until it has come back. An arena lives no
longer than the connection that it was made for: whoever has it mapped then may go on reading.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from hacd.arena import COMMON
from hacd.worker.blocks import Blocks

#: It stays as long as it is: what is mapped can be read.
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW

#: F_SEAL_FUTURE_WRITE of linux/fcntl.h (5.1), for which Python 3.11 has no name: who maps it from now on can only read
FUTURE_WRITE = 0x10


class Arena:
    """`blocks` says which of its bytes are taken, `view` is all of them."""

    def __init__(self, size: int, number: int = COMMON) -> None:
        """`size`: bytes that it may come to have. `number`: whose own it is. Raises OSError, ValueError."""
        self.fd = -1
        self.number = number
        self.blocks = Blocks(size)
        self.size = self.blocks.size
        self.fd = os.memfd_create("hacd-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, self.size)
        self._map = mmap.mmap(self.fd, self.size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, SEALS | (FUTURE_WRITE if number else 0))
        self.view = memoryview(self._map)
        self.left = False  # nothing more is to be put into it
        self._lent: set[int] = set()  # where blocks begin that are not the worker's

    def lend(self, begin: int, end: int) -> memoryview:
        """What is in the block that begins there, which is somebody else's from here on."""
        self._lent.add(begin)
        return self.view[begin:end]

    def take_back(self, begin: int) -> bool:
        """The block that begins there has come back, and is free; False if it was not lent."""
        if begin not in self._lent:
            return False
        self._lent.remove(begin)
        self.blocks.give_back(begin)
        return True

    def take_back_all(self) -> None:
        """Nobody will return what was lent."""
        while self._lent:
            self.blocks.give_back(self._lent.pop())

    def descriptor(self) -> int:
        """To be passed on, once: whoever takes it closes it. The mapping has one of its own."""
        fd, self.fd = self.fd, -1
        return fd

    def trim(self) -> None:
        """Give the system all that no block has. Raises OSError for one that is somebody's own: its seals forbid it."""
        self.blocks.trim(self._remove)

    def _remove(self, begin: int, length: int) -> None:
        self._map.madvise(mmap.MADV_REMOVE, begin, length)

    def close(self) -> None:
        """Nothing more is put into it. The mapping lasts as long as a view of it."""
        self.view.release()
        del self._map

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
