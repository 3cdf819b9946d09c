"""One contender's run, measured in its own process: time, latencies, CPU time, memory."""

from __future__ import annotations

import gc
import os
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench import proc

now = time.perf_counter_ns

CALLER = "caller"


@dataclass(frozen=True)
class Job:
    """What a contender is told: what to ask for, how many at a time, and where the daemon is."""

    url: str
    in_flight: int
    socket: str | None


class Tally:
    """What came of some queries: how long each took, ns, and how many failed."""

    __slots__ = ("failure", "failures", "latencies")

    def __init__(self) -> None:
        self.latencies = array("q")
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
    """What was measured. CPU times are per query; roles are caller, front, worker and origin."""

    queries: int
    failures: int
    failure: str
    seconds: float
    p50_us: float
    p99_us: float
    cpu_us: dict[str, float]
    memory_kib: dict[str, int]

    @property
    def rate(self) -> float:
        """Queries per second."""
        return self.queries / self.seconds


def measured(run: Run, warm_up: int, queries: int, watched: Mapping[str, list[int]]) -> Figures:
    """Warm up, then measure `queries`. `watched`: the other processes at work, by role."""
    warm = run(warm_up)
    gc.collect()
    before = _cpu_ns(watched)
    begun = now()
    tally = run(queries)
    seconds = (now() - begun) / 1e9
    after = _cpu_ns(watched)
    latencies = sorted(tally.latencies)
    missing = queries - len(latencies)
    if missing:
        tally.failures += missing
        tally.failure = tally.failure or f"{missing} queries had no end"
    return Figures(
        queries=queries,
        failures=warm.failures + tally.failures,
        failure=warm.failure or tally.failure,
        seconds=seconds,
        p50_us=_percentile(latencies, 50),
        p99_us=_percentile(latencies, 99),
        cpu_us={role: (after[role] - before[role]) / 1000 / queries for role in after},
        memory_kib=_memory_kib(watched),
    )


def _cpu_ns(watched: Mapping[str, list[int]]) -> dict[str, int]:
    """CPU time so far, by role; that of several workers is added up."""
    times = {role: sum(map(proc.cpu_ns, pids)) for role, pids in watched.items()}
    return {CALLER: time.process_time_ns()} | times


def _memory_kib(watched: Mapping[str, list[int]]) -> dict[str, int]:
    """Peak memory by role; of several workers, the largest's."""
    peaks = {role: max(map(proc.peak_memory_kib, pids)) for role, pids in watched.items()}
    return {CALLER: proc.peak_memory_kib(os.getpid())} | peaks


def _percentile(ordered: list[int], percent: int) -> float:
    """In µs, of ns."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] / 1000 if ordered else 0.0
