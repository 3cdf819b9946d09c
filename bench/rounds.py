"""The rounds: in each, every contender runs once, in a fresh process, and hacd with a fresh daemon.

Rounds are interleaved because a machine is not as fast now as it was a minute ago: contenders
that ran next to each other had the same machine, more or less.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError, daemon
from bench.contenders import CONTENDERS, MANY, Contender
from bench.measure import Figures
from bench.origin import Origin
from bench.processes import running

#: s that one contender's run may take
LIMIT = 300

#: one at a time is slower: that share of the queries is enough
ONE_SHARE = 4

#: warm-up: that share of the queries, and every connection some times
WARM_UP_SHARE = 10
WARM_UP_TIMES = 4

#: figures by the contender's name
Round = dict[str, Figures]


@dataclass(frozen=True)
class Plan:
    """How much is asked. `queries`: of each contender in each round."""

    queries: int
    rounds: int
    in_flight: int
    workers: int

    def queries_of(self, contender: Contender) -> int:
        """How many that contender asks."""
        return self.queries if contender.group == MANY else max(1, self.queries // ONE_SHARE)

    def in_flight_of(self, contender: Contender) -> int:
        """How many it has in flight."""
        return self.in_flight if contender.group == MANY else 1


def run(plan: Plan, origin: Origin) -> Iterator[Round]:
    """One round after the other. Raises BenchError where a contender fails as a whole."""
    for number in range(1, plan.rounds + 1):
        figures: Round = {}
        for contender in CONTENDERS:
            figures[contender.name] = measured = _run(plan, contender, origin)
            place = f"{plan.in_flight_of(contender)} in flight"
            line = f"round {number}/{plan.rounds}: {contender.label}, {place}: {measured.rate:,.0f} queries/s"
            print(line, file=sys.stderr, flush=True)
        yield figures


def _run(plan: Plan, contender: Contender, origin: Origin) -> Figures:
    with _daemon(plan, contender) as (path, watched):
        queries, in_flight = plan.queries_of(contender), plan.in_flight_of(contender)
        command = [sys.executable, "-m", "bench.contender", contender.name]
        command += ["--url", origin.url, "--queries", str(queries), "--in-flight", str(in_flight)]
        command += ["--warm-up", str(max(queries // WARM_UP_SHARE, in_flight * WARM_UP_TIMES))]
        command += ["--watch", json.dumps(watched | {"origin": origin.pids})]
        command += ["--socket", path] if path else []
        return _contend(contender, command)


@contextmanager
def _daemon(plan: Plan, contender: Contender) -> Iterator[tuple[str | None, dict[str, list[int]]]]:
    """Path and processes of a daemon, for a contender that is one of hacd's."""
    if not contender.daemon:
        yield None, {}
        return
    with (
        tempfile.TemporaryDirectory(prefix="hacd-bench-") as directory,
        daemon.serving(Path(directory), plan.workers) as hacd,
    ):
        yield hacd.socket, {"front": hacd.front, "worker": hacd.workers}


def _contend(contender: Contender, command: list[str]) -> Figures:
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{contender.name}: no end within {LIMIT} s") from None
    if process.returncode:
        raise BenchError(f"{contender.name}: exit code {process.returncode}\n{err.strip()}")
    return Figures(**json.loads(out))
