"""The processes that the bench starts, and that none of them outlives it.

Each is the leader of a session of its own: the terminal's Ctrl-C reaches the bench alone, and
what a process leaves behind is found by its group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from bench import ROOT, BenchError

#: s that a process gets to be ready, and to end
PATIENCE = 15.0
#: s between two looks at what is being waited for
LOOK = 0.01


class _Interrupts:
    """SIGINT and SIGTERM end the bench, but not between a process's start and the note of it."""

    def __init__(self) -> None:
        self.starting = False
        self.came = 0

    def take(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._interrupted)

    def _interrupted(self, signum: int, _frame: FrameType | None) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)  # from here on, cleaning up
        self.came = signum
        self.check()

    def check(self) -> None:
        if self.came and not self.starting:
            signum, self.came = self.came, 0
            raise SystemExit(128 + signum)


interrupts = _Interrupts()


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run `command`; when the block is left, it and all that it started have ended."""
    interrupts.starting = True
    process: subprocess.Popen[str] | None = None
    try:
        process = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **options)
        interrupts.starting = False
        interrupts.check()
        yield process
    finally:
        interrupts.starting = False
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """SIGTERM, and SIGKILL for the group of a process that does not heed it."""
    process.terminate()
    end = time.monotonic() + PATIENCE
    while _group_lives(process) and time.monotonic() < end:
        time.sleep(LOOK)
    if _group_lives(process):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _group_lives(process: subprocess.Popen[str]) -> bool:
    process.poll()  # a zombie would keep the group
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def waiting(process: subprocess.Popen[str], what: str, log: Path) -> Iterator[None]:
    """One turn for each look at whether `what` is ready. Raises BenchError when it ended, or takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise BenchError(f"{what} ended with exit code {process.returncode}: {tail(log)}")
        yield
        time.sleep(LOOK)
    raise BenchError(f"{what} was not ready within {PATIENCE:.0f} s: {tail(log)}")


def tail(log: Path) -> str:
    """The last lines of a log, for an error's text."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(lines[-5:]) or "its log is empty"
