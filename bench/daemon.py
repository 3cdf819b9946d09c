"""A daemon as a user would run it, with a socket of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError, proc
from bench.processes import running, waiting
from hacd import Client, HacdError

#: ms; no query of a bench takes as long unless something is wrong
TIMEOUT = 10_000


@dataclass(frozen=True)
class Daemon:
    """The daemon that runs: the path of its socket, and its processes."""

    socket: str
    front: list[int]
    workers: list[int]


@contextmanager
def serving(directory: Path, workers: int, settings: Sequence[str] = ()) -> Iterator[Daemon]:
    """Run a daemon with its socket and its log in `directory`. `settings`: as for `--set`."""
    path, log = directory / "hacd.sock", directory / "hacd.log"
    command = [sys.executable, "-m", "hacd", "run", "--socket", str(path)]
    command += ["--set", f"workers={workers}", "--set", f"connection_timeout={TIMEOUT}"]
    for setting in settings:
        command += ["--set", setting]
    with log.open("w") as stderr, running(command, stderr=stderr) as process:
        for _ in waiting(process, "hacd", log):
            if _ready(path, workers):
                break
        front, ours = proc.children(process.pid, "hacd: front"), proc.children(process.pid, "hacd: worker")
        if len(front) != 1 or len(ours) != workers:
            raise BenchError(f"hacd has {len(front)} fronts and {len(ours)} workers, not 1 and {workers}")
        yield Daemon(str(path), front, ours)


def _ready(path: Path, workers: int) -> bool:
    try:
        with Client(str(path)) as client:
            return sum(bool(row["pid"]) for row in client.stats()["workers"]) == workers
    except HacdError:
        return False
