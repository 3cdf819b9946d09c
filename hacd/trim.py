"""Memory that was let go of, back to the system.

glibc keeps what is freed between what still lives: a process that had forty bodies of 4 MiB kept 110 MiB. To
have such memory mapped one by one would cost each body of a MiB three times its time; to ask for it back
now and then costs nothing that can be measured.
"""

from __future__ import annotations

import ctypes
import os

#: bytes above the least that this process had, from which on it is worth the asking
STEP = 16 * 1024 * 1024

#: looks that are let pass at the most, where asking did not help
PATIENCE = 64

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


class Trim:
    """To be looked at about once a second. Where the C library is not glibc, it does nothing."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._least = resident()
        self._wait = 0  # looks to let pass
        self._next_wait = 1

    def look(self) -> None:
        """Give back what is free, if there may be much of it. While it is in use, look less and less often."""
        if self._wait:
            self._wait -= 1
            return
        try:
            self._give_back()
        except OSError:
            return  # no descriptor is left to look with: memory can wait

    def _give_back(self) -> None:
        before = resident()
        if self._trim is None or before < self._least + STEP:
            self._least = min(self._least, before)
            return
        self._trim(0)
        after = resident()
        self._least = min(self._least, after)
        helped = before - after > STEP // 4
        self._next_wait = 1 if helped else min(2 * self._next_wait, PATIENCE)
        self._wait = self._next_wait
