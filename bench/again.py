"""`python -m bench.again FILE …`: the table, and the plots, of figures that were kept.

Of a comparison that several files have, the last one's count: so that one can be measured again alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench import BenchError, comparisons, plots, table
from bench.comparison import Plan, Result, Sample


def load(file: Path) -> tuple[dict[str, Any], list[Result]]:
    """What `report.keep` wrote, and its results. Raises BenchError for another file."""
    try:
        kept = json.loads(file.read_text())
        return kept, [_result(one) for one in kept["comparisons"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{file}: no figures of this bench: {error!r}") from None


def _result(kept: dict[str, Any]) -> Result:
    comparison = comparisons.of(kept["name"], Plan(rounds=1, share=1))
    rounds = [{name: Sample(**sample) for name, sample in round_.items()} for round_ in kept["rounds"]]
    missing = [side.name for side in comparison.sides for round_ in rounds if side.name not in round_]
    if missing:
        raise BenchError(f"{kept['name']}: no figures of {missing[0]}: measured with --smoke, or by another bench")
    return Result(comparison, rounds, kept["skipped"], kept["broke"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.again", description="Tables and plots of kept figures.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="as bench/results/latest.json")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw the curves' plots there")
    given = parser.parse_args()
    try:
        loaded = [load(file) for file in given.files]
    except BenchError as error:
        sys.exit(str(error))
    results = {result.comparison.name: result for _, some in loaded for result in some}
    ordered = [results[name] for name in comparisons.NAMES if name in results]
    commands = "; ".join(kept["command"] for kept, _ in loaded)
    print(table.render(ordered, loaded[-1][0]["machine"], commands))
    for file in plots.draw(ordered, given.plots) if given.plots else ():
        print(f"drawn: {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
