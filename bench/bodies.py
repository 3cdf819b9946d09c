"""`python -m bench.bodies`: what a body costs by its size, with each `memory_manager` and each kind of caller.

One caller, one origin, a daemon with `sys` and one with `shm`. In each round every way of
having a body has its turn at each size, next to the others: read the ratios first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import BenchError, daemon, machine, measure, origin
from bench.measure import Figures, Tally
from bench.processes import interrupts
from bench.table import aligned
from hacd import Client, Reply
from hacd.settings.table import Hacd

KIB, MIB = 1024, 1024 * 1024

#: bytes, and how many of them are asked for in a run at 1.0 of `--share`
SIZES = {KIB: 4000, 64 * KIB: 1600, MIB: 240, 16 * MIB: 24}

#: queries at a time; all their bodies find room
IN_FLIGHT = 4
ROOM = ("shm_size=268435456", "max_client_buffer=268435456")

ROLES = ("caller", "front", "worker")


@dataclass(frozen=True)
class Way:
    """One way to have a body: which daemon, whether the client takes descriptors, and what it does with the reply."""

    name: str
    manager: str
    descriptors: bool
    body: Callable[[Reply], bytes | memoryview]


def _bytes(reply: Reply) -> bytes:
    return reply.rb


def _view(reply: Reply) -> memoryview:
    return reply.view


WAYS = (
    Way("sys", "sys", True, _bytes),
    Way("shm, descriptor, view", "shm", True, _view),
    Way("shm, descriptor, rb", "shm", True, _bytes),
    Way("shm, no descriptor", "shm", False, _bytes),
)

Results = dict[tuple[int, str], list[Figures]]


def _run(way: Way, client: Client, url: str, size: int) -> measure.Run:
    def run(queries: int) -> Tally:
        tally = Tally()
        begun = measure.now()
        for reply in client.query_many([url] * queries, in_flight=IN_FLIGHT):
            body = way.body(reply)
            # Every page is looked at once: a body that is mapped and not looked at would cost nothing.
            if len(body) != size or len(bytes(body[::4096])) != (size + 4095) // 4096:
                tally.failed(reply)
            tally.latencies.append(measure.now() - begun)
        return tally

    return run


def _round(daemons: dict[str, daemon.Daemon], url: str, sizes: dict[int, int], results: Results, share: float) -> None:
    for size, count in sizes.items():
        for way in WAYS:
            at = daemons[way.manager]
            queries = max(IN_FLIGHT, int(count * share))
            with Client(at.socket, descriptors=way.descriptors) as client:
                run = _run(way, client, f"{url}{origin.FILES}/{size}", size)
                watched = {"front": at.front, "worker": at.workers}
                figures = measure.measured(run, max(2, queries // 10), queries, watched)
            if figures.failures:
                raise BenchError(f"{way.name}, {size} bytes: {figures.failures} failed, the first: {figures.failure}")
            results.setdefault((size, way.name), []).append(figures)


def _rows(size: int, results: Results) -> list[list[str]]:
    rows = []
    base = results[size, WAYS[0].name]
    for way in WAYS:
        figures = results[size, way.name]
        cpu = [median(one.cpu_us[role] for one in figures) for role in ROLES]
        rates = [one.rate / other.rate for one, other in zip(figures, base, strict=True)]
        costs = [_cpu(one) / _cpu(other) for one, other in zip(figures, base, strict=True)]
        rows.append(
            [way.name, f"{median(one.rate for one in figures):,.0f}"]
            + [f"{value:,.0f}" for value in (*cpu, sum(cpu))]
            + [f"{median(rates):.2f} ({min(rates):.2f} – {max(rates):.2f})"]
            + [f"{median(costs):.2f} ({min(costs):.2f} – {max(costs):.2f})"]
        )
    return rows


def _cpu(figures: Figures) -> float:
    return sum(figures.cpu_us[role] for role in ROLES)


def _name(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def _print(results: Results, sizes: dict[int, int], rounds: int) -> None:
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    print(f"\n{IN_FLIGHT} in flight, medians of {rounds} rounds; CPU in µs per query; ratios to sys within a round\n")
    head = ("", "queries/s", "CPU caller", "front", "worker", "sum", "queries/s to sys", "CPU to sys")
    for size in sizes:
        print(aligned((f"body of {_name(size)}", *head[1:]), _rows(size, results)) + "\n")


def _bench(given: argparse.Namespace) -> None:
    sizes = {size: SIZES.get(size, max(24, 100 * MIB // (size + 64 * KIB))) for size in given.sizes}
    results: Results = {}
    with ExitStack() as stack:
        directories = {
            name: Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hacd-bench-")))
            for name in ("origin", "sys", "shm")
        }
        origin.keep_files(directories["origin"], list(sizes))
        asked = stack.enter_context(origin.serving(directories["origin"]))
        daemons = {
            manager: stack.enter_context(
                daemon.serving(
                    directories[manager],
                    1,
                    [f"memory_manager={manager}", f"shm_threshold={given.threshold}", *ROOM],
                )
            )
            for manager in ("sys", "shm")
        }
        for number in range(1, given.rounds + 1):
            _round(daemons, asked.url, sizes, results, given.share)
            print(f"round {number}/{given.rounds}", file=sys.stderr, flush=True)
    _print(results, sizes, given.rounds)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.bodies", description="What a body costs by its size.")
    parser.add_argument("--rounds", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of queries (%(default)s)")
    parser.add_argument("--threshold", type=int, default=Hacd().shm_threshold, help="shm_threshold (%(default)s)")
    parser.add_argument("sizes", type=int, nargs="*", default=list(SIZES), help="bytes, multiples of 256")
    interrupts.take()
    try:
        _bench(parser.parse_args())
    except BenchError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
