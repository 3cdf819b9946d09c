"""`python -m bench`: run the comparisons, print the table, keep the figures.

Exit code 1 if anything failed, 69 if something that every comparison needs is not installed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bench import ROOT, BenchError, comparisons, machine, origin, plots, report, rounds, table
from bench.comparison import Plan, Result
from bench.comparisons import large, medium
from bench.openfiles import raise_limit
from bench.processes import interrupts

LATEST = Path(__file__).resolve().parent / "results" / "latest.json"
PLOTS = ROOT / "docs" / "plots"

#: rounds, and the share of the usual number of queries; a smoke test's curves stop early too
SHORT = (3, 0.3)
FULL = (7, 1.0)
SMOKE = (1, 0.01)
SMOKE_LARGEST = 10

#: takes that long that a short run has one round of it
LONG = "slow"

#: the curves have more points than the comparisons have sides
CURVE_ROUNDS = 3


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in comparisons.NAMES:
            raise argparse.ArgumentTypeError(f"{name!r}: of {', '.join(comparisons.NAMES)} would be right")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="hacd beside what else one would use.")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--full", action="store_true", help="the curves too, more rounds and more queries; draws plots")
    kind.add_argument("--smoke", action="store_true", help="everything with tiny numbers: whether it runs, no figures")
    parser.add_argument("--only", type=_names, metavar="NAME,…", help=f"of {', '.join(comparisons.NAMES)}")
    parser.add_argument("--rounds", type=_positive, help="of a comparison, and of a curve")
    parser.add_argument("--share", type=float, help="of the usual number of queries")
    parser.add_argument(
        "--json", type=Path, default=LATEST, metavar="FILE", help="raw figures go here, the table beside"
    )
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw the curves' plots there")
    return parser.parse_args()


def _plan(given: argparse.Namespace, name: str) -> Plan:
    usual_rounds, share = FULL if given.full else SMOKE if given.smoke else SHORT
    if name == LONG and not given.full:
        usual_rounds = 1
    if name in comparisons.CURVES:
        usual_rounds = min(usual_rounds, CURVE_ROUNDS)
    largest = {"largest": SMOKE_LARGEST} if given.smoke else {}
    return Plan(given.rounds or usual_rounds, given.share or share, **largest)


def _results(given: argparse.Namespace) -> Iterator[Result]:
    names = given.only or (comparisons.NAMES if given.full or given.smoke else comparisons.COMPARISONS)
    with tempfile.TemporaryDirectory(prefix="hacd-bench-") as directory:
        origin.keep_files(Path(directory), [medium.SIZE, large.SIZE])
        with origin.serving(Path(directory)) as asked:
            for name in names:
                plan = _plan(given, name)
                yield rounds.run(comparisons.of(name, plan), plan, asked)


def _bench(given: argparse.Namespace) -> None:
    raise_limit()
    described, command = machine.describe(), shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    drawn = given.plots or (PLOTS if given.full else None)
    if drawn and find_spec("matplotlib") is None:
        raise BenchError("bench: no matplotlib here to draw with: pip install 'hacd[bench]'", origin.EX_UNAVAILABLE)
    results: list[Result] = []
    for result in _results(given):
        results.append(result)
        report.keep(given.json, results, described, command)  # what has been measured is not lost with what follows
    print(table.render(results, described, command))
    for file in plots.draw(results, drawn) if drawn else ():
        print(f"drawn: {file}", file=sys.stderr)
    failures = [line for result in results for line in result.failures()]
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
