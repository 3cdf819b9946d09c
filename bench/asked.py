"""Sides that ask an origin: a contender in a fresh process, with a fresh daemon where it is one of hacd's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from bench import BenchError, daemon
from bench.comparison import Sample, Stage
from bench.measure import Figures, Job
from bench.origin import BODY_SIZE, Origin
from bench.processes import running

#: s that one contender's run may take
LIMIT = 300

#: warm-up: that share of the queries, and every connection some times
WARM_UP_SHARE = 10
WARM_UP_TIMES = 4

MIB = 1024


def _no_settings(_stage: Stage) -> Sequence[str]:
    return ()


def _nothing_beside(_socket: str) -> AbstractContextManager[None]:
    return nullcontext()


def _shared_origin(stage: Stage) -> AbstractContextManager[Origin]:
    return nullcontext(stage.origin)


def page(origin: Origin) -> list[str]:
    """The page of 53 bytes."""
    return [origin.url]


@dataclass(frozen=True)
class Hacd:
    """The daemon that a contender of hacd's asks. `settings`: as for `--set`; `config`: a file's text.

    `beside`: what goes on beside the measured queries, given the path of the daemon's socket.
    """

    workers: int = 1
    fronts: int = 1
    settings: Callable[[Stage], Sequence[str]] = _no_settings
    config: str = ""
    beside: Callable[[str], AbstractContextManager[None]] = _nothing_beside


@dataclass(frozen=True)
class Asked:
    """What a contender is to do; called, it has it done. `home`: as `hacd_blocking:many`.

    `queries`: at a share of 1. `warm_up`: queries; None: as all have it. `secure`: the origin's authority is told.
    `options`: of each query of hacd's.
    """

    home: str
    queries: int
    in_flight: int
    hacd: Hacd | None = None
    urls: Callable[[Origin], list[str]] = page
    size: int = BODY_SIZE
    origin: Callable[[Stage], AbstractContextManager[Origin]] = _shared_origin
    warm_up: int | None = None
    secure: bool = False
    http: str = ""
    options: dict[str, Any] | None = None
    rate: float = 0.0
    callers: int = 1

    def __call__(self, stage: Stage) -> Sample:
        """Raises BenchError where the contender fails as a whole."""
        with self.origin(stage) as origin, _daemon(self.hacd, stage) as (path, watched):
            queries = stage.plan.queries(self.queries, least=self.in_flight)
            warm_up = max(queries // WARM_UP_SHARE, self.in_flight * WARM_UP_TIMES)
            command = [sys.executable, "-m", "bench.contender", self.home, "--queries", str(queries)]
            command += ["--warm-up", str(warm_up if self.warm_up is None else self.warm_up)]
            command += ["--job", json.dumps(asdict(self._job(origin, path)))]
            command += ["--watch", json.dumps(watched | {"origin": origin.pids})]
            return sample(_contend(self.home, command))

    def _job(self, origin: Origin, path: str | None) -> Job:
        return Job(
            urls=self.urls(origin),
            in_flight=self.in_flight,
            size=self.size,
            socket=path,
            http=self.http,
            ca=str(origin.tls.certificate) if self.secure and origin.tls else None,
            options=self.options or {},
            rate=self.rate,
            callers=self.callers,
        )


@contextmanager
def _daemon(wanted: Hacd | None, stage: Stage) -> Iterator[tuple[str | None, dict[str, list[int]]]]:
    """Path and processes of the daemon, if one is wanted."""
    if wanted is None:
        yield None, {}
        return
    settings = wanted.settings(stage)
    with (
        daemon.serving(stage.directory, wanted.workers, settings, wanted.config, wanted.fronts) as hacd,
        wanted.beside(hacd.socket),
    ):
        yield hacd.socket, {"front": hacd.front, "worker": hacd.workers}


def _contend(home: str, command: list[str]) -> Figures:
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{home}: no end within {LIMIT} s") from None
    if process.returncode:
        raise BenchError(f"{home}: exit code {process.returncode}\n{err.strip()}")
    return Figures(**json.loads(out))


def sample(figures: Figures) -> Sample:
    """A contender's figures by the names that tables and measures know."""
    values = {"rate": figures.rate, "queries": figures.queries, "connections": figures.connections}
    for name, latency in (("p50_us", figures.p50_us), ("p99_us", figures.p99_us)):
        if latency is not None:
            values[name] = latency
    values |= {f"cpu.{role}": cpu for role, cpu in figures.cpu_us.items()}
    values["cpu.sum"] = sum(cpu for role, cpu in figures.cpu_us.items() if role != "origin")
    values |= {f"peak.{role}": size / MIB for role, size in figures.memory_kib.items() if role != "origin"}
    return Sample(values, figures.failures, figures.failure)
