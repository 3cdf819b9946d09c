"""One contender's run, measured in its own process: time, latencies, CPU time, memory, connections."""

from __future__ import annotations

import gc
import os
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench import BenchError, proc

now = time.perf_counter_ns

CALLER = "caller"


@dataclass(frozen=True)
class Job:
    """What a contender is told: what to ask for, how many at a time, and where the daemon is.

    `size`: of a body, bytes. `http`: the version that replies have to come in, where it matters. `ca`: file of the
    authority that the origin's certificate is judged by. `rate`: queries per second, of an open loop; `callers`:
    connections to the daemon, of a contender that has several.
    """

    urls: list[str]
    in_flight: int
    size: int
    socket: str | None = None
    http: str = ""
    ca: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.0
    callers: int = 1

    @property
    def url(self) -> str:
        """The one URL."""
        return self.urls[0]


class Tally:
    """What came of some queries: how long each took, ns, and how many failed. `untimed`: ended, and took who knows."""

    __slots__ = ("failure", "failures", "latencies", "untimed")

    def __init__(self) -> None:
        self.latencies = array("q")
        self.untimed = 0
        self.failures = 0
        self.failure = ""  # the first, for people

    def failed(self, what: object) -> None:
        """Count a query that did not bring the page."""
        self.failures += 1
        self.failure = self.failure or str(what)


#: asks that many times
Run = Callable[[int], Tally]


@dataclass(frozen=True)
class Figures:
    """What was measured. CPU times are per query; roles are caller, front, worker and origin.

    `connections`: to the origin, at the end.
    """

    queries: int
    failures: int
    failure: str
    seconds: float
    p50_us: float | None
    p99_us: float | None
    cpu_us: dict[str, float]
    memory_kib: dict[str, int]
    connections: int

    @property
    def rate(self) -> float:
        """Queries per second."""
        return self.queries / self.seconds


def measured(run: Run, warm_up: int, queries: int, watched: Mapping[str, list[int]], port: int = 0) -> Figures:
    """Warm up, then measure `queries`. `watched`: the other processes at work, by role; `port`: the origin's."""
    warm = run(warm_up)
    gc.collect()
    before = _cpu_ns(watched)
    begun = now()
    tally = run(queries)
    seconds = (now() - begun) / 1e9
    after = _cpu_ns(watched)
    latencies = sorted(tally.latencies)
    missing = queries - len(latencies) - tally.untimed
    if missing:
        tally.failures += missing
        tally.failure = tally.failure or f"{missing} queries had no end"
    return Figures(
        queries=queries,
        failures=warm.failures + tally.failures,
        failure=warm.failure or tally.failure,
        seconds=seconds,
        p50_us=percentile(latencies, 50),
        p99_us=percentile(latencies, 99),
        cpu_us={role: (after[role] - before[role]) / 1000 / queries for role in after},
        memory_kib=_memory_kib(watched),
        connections=proc.connections(port) if port else 0,
    )


def _cpu_ns(watched: Mapping[str, list[int]]) -> dict[str, int]:
    """CPU time so far, by role; that of several workers is added up."""
    times = {}
    for role, pids in watched.items():
        try:
            times[role] = sum(map(proc.cpu_ns, pids))
        except FileNotFoundError:
            raise BenchError(f"a process of {role} has ended meanwhile") from None
    return {CALLER: time.process_time_ns()} | times


def _memory_kib(watched: Mapping[str, list[int]]) -> dict[str, int]:
    """Peak memory by role; of several workers, the largest's."""
    peaks = {role: max(map(proc.peak_memory_kib, pids)) for role, pids in watched.items()}
    return {CALLER: proc.peak_memory_kib(os.getpid())} | peaks


def percentile(ordered: list[int], percent: int) -> float | None:
    """In µs, of ns; None of nothing."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] / 1000 if ordered else None
