"""`python -m bench`: run the rounds, print the table, keep the figures.

Exit code 1 if a query failed, 69 if something that the bench needs is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from bench import BenchError, machine, origin, rounds, table
from bench.contenders import BY_NAME
from bench.processes import interrupts

LATEST = Path(__file__).resolve().parent / "results" / "latest.json"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="hacd beside aiohttp and libcurl alone.")
    parser.add_argument("--queries", type=_positive, default=25_000, help="of each contender in a round (%(default)s)")
    parser.add_argument("--rounds", type=_positive, default=5, help="(%(default)s)")
    parser.add_argument("--in-flight", type=_positive, default=64, help="(%(default)s)")
    parser.add_argument("--workers", type=_positive, default=1, help="worker processes of hacd (%(default)s)")
    parser.add_argument("--json", type=Path, default=LATEST, metavar="FILE", help="raw figures go here (%(default)s)")
    return parser.parse_args()


def _failures(ran: list[rounds.Round]) -> list[str]:
    """A line for each run in which queries failed."""
    return [
        f"{BY_NAME[name].label}, round {number}: {figures.failures} queries failed, the first: {figures.failure}"
        for number, round_ in enumerate(ran, 1)
        for name, figures in round_.items()
        if figures.failures
    ]


def _keep(path: Path, plan: rounds.Plan, described: dict[str, str], ran: list[rounds.Round]) -> None:
    raw = [{name: asdict(figures) for name, figures in round_.items()} for round_ in ran]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": described, "plan": asdict(plan), "rounds": raw}, indent=1) + "\n")


def _bench(given: argparse.Namespace) -> None:
    if find_spec("aiohttp") is None:
        raise BenchError("bench: no aiohttp here to compare with: pip install 'hacd[bench]'", origin.EX_UNAVAILABLE)
    plan = rounds.Plan(given.queries, given.rounds, given.in_flight, given.workers)
    described = machine.describe()
    with (
        tempfile.TemporaryDirectory(prefix="hacd-bench-") as directory,
        origin.serving(Path(directory)) as asked,
    ):
        ran = list(rounds.run(plan, asked))
    _keep(given.json, plan, described, ran)
    print(table.render(ran, plan, described))
    failures = _failures(ran)
    if failures:
        raise BenchError("\n".join(failures))


def main() -> None:
    """The command."""
    interrupts.take()
    try:
        _bench(_arguments())
    except BenchError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
