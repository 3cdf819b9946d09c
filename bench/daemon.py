"""A daemon as a user would run it, with a socket of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError, proc
from bench.processes import running, tail, waiting
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
def serving(
    directory: Path, workers: int, settings: Sequence[str] = (), config: str = "", fronts: int = 1
) -> Iterator[Daemon]:
    """Run a daemon with its socket and its log in `directory`. `settings`: as for `--set`; `config`: a file's text."""
    path, log = directory / "hacd.sock", directory / "hacd.log"
    with (
        log.open("w") as stderr,
        running(command(directory, path, workers, (f"fronts={fronts}", *settings), config), stderr=stderr) as process,
    ):
        for _ in waiting(process, "hacd", log):
            if _ready(path, workers, fronts):
                break
        front, ours = proc.children(process.pid, "hacd: front"), proc.children(process.pid, "hacd: worker")
        if len(front) != fronts or len(ours) != workers:
            raise BenchError(f"hacd has {len(front)} fronts and {len(ours)} workers, not {fronts} and {workers}")
        try:
            yield Daemon(str(path), front, ours)
        except BenchError as error:
            raise BenchError(f"{error}\nthe daemon's log ends: {tail(log)}") from None


def command(directory: Path, path: Path, workers: int, settings: Sequence[str], config: str) -> list[str]:
    """What a user would type."""
    words = [sys.executable, "-m", "hacd", "run", "--socket", str(path)]
    if config:
        file = directory / "hacd.toml"
        file.write_text(config)
        words += ["-c", str(file)]
    for setting in (f"workers={workers}", f"connection_timeout={TIMEOUT}", *settings):
        words += ["--set", setting]
    return words


def _ready(path: Path, workers: int, fronts: int) -> bool:
    try:
        with Client(str(path)) as client:
            stats = client.stats()
            if any(row["state"] != "running" for row in stats["fronts"]) or len(stats["fronts"]) != fronts:
                return False
            return sum(bool(row["pid"]) for row in stats["workers"]) == workers
    except HacdError:
        return False
