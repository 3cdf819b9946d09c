"""The stack of a child that crashed or hangs, for the log.

Each child has an anonymous file of its own, made before the fork. There its interpreter writes where it
was, by itself when it crashes in C code (in libcurl, say), and on SIGUSR2 while it hangs. It is read here,
once the child is gone, so that it comes to the log like any other line.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Iterable

from hacd import log
from hacd.supervisor.children import Child

#: bytes of it that are logged
SHOWN = 16_384

#: seconds that a child that hangs gets to say where, before SIGKILL
LAST_WORDS = 0.3

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


class LastWords:
    """What children say when they are asked, since they hang, or of their own accord, since they crash."""

    def __init__(self) -> None:
        self._stacks: dict[Child, Stack] = {}
        self._asked: dict[Child, float] = {}  # those that hang, and when they are killed

    def expect(self, child: Child, stack: Stack) -> None:
        """A child was started, and has that file."""
        self._stacks[child] = stack

    def ask(self, child: Child) -> None:
        """It hangs: it gets a moment to say where, if it can still tell, and is killed."""
        log.error("%s [%d] %s: killed", child.name, child.pid, "is stopped" if is_stopped(child.pid) else "hangs")
        os.kill(child.pid, signal.SIGUSR2)
        self._asked[child] = time.monotonic() + LAST_WORDS

    def is_asked(self, child: Child) -> bool:
        """Whether it has been, and is not gone yet."""
        return child in self._asked

    def times(self) -> Iterable[float]:
        """When somebody's moment is over."""
        return self._asked.values()

    def are_over(self, now: float) -> None:
        """Kill those whose moment is."""
        for child, due in self._asked.items():
            if due <= now:
                os.kill(child.pid, signal.SIGKILL)
                self._asked[child] = due + LAST_WORDS  # it is reaped long before

    def tell(self, child: Child, pid: int, status: int) -> None:
        """It was reaped: log what it said, if it hung or crashed."""
        stack = self._stacks.pop(child)
        asked = self._asked.pop(child, None)
        if asked is not None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES):
            stack.tell(child.name, pid)
        stack.close()


def is_stopped(pid: int) -> bool:
    """Whether a process does not run since it got SIGSTOP: then it tells nothing."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return False
