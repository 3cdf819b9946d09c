"""The stack of a child that crashed or hangs, for the log.

Each child has an anonymous file of its own, made before the fork. There its interpreter writes where it
was, by itself when it crashes in C code (in libcurl, say), and on SIGUSR2 while it hangs. It is read here,
once the child is gone, so that it comes to the log like any other line.
"""

from __future__ import annotations

import faulthandler
import os
import signal

from hacd import log

#: bytes of it that are logged
SHOWN = 16_384


#: signals by which a process ends that has gone wrong itself
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


class Stack:
    """One child's file."""

    def __init__(self) -> None:
        self._file = open(os.memfd_create("hacd-stack"), "w+b", buffering=0)  # noqa: SIM115

    def take(self) -> None:
        """In the child: from here on, its stack goes there."""
        faulthandler.enable(self._file, all_threads=True)
        faulthandler.register(signal.SIGUSR2, self._file, all_threads=True)

    def tell(self, name: str, pid: int) -> None:
        """Log what is there."""
        for line in os.pread(self._file.fileno(), SHOWN, 0).decode(errors="replace").splitlines():
            if line.strip():
                log.error("%s [%d] stack: %s", name, pid, line.strip())

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def is_stopped(pid: int) -> bool:
    """Whether a process does not run since it got SIGSTOP: then it tells nothing."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False
