"""The rounds of a comparison: in each, every side runs once, in fresh processes.

Rounds are interleaved because a machine is not as fast now as it was a minute ago: sides that ran
next to each other had the same machine, more or less.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bench import BenchError
from bench.comparison import Comparison, Plan, Result, Sample, Side, Stage
from bench.origin import Origin


def run(comparison: Comparison, plan: Plan, origin: Origin) -> Result:
    """All rounds, or why not. What breaks ends this comparison: it is told, and the others go on."""
    result = Result(comparison, skipped=comparison.missing())
    if result.skipped:
        _say(f"{comparison.name}: skipped: {result.skipped}")
        return result
    for number in range(1, plan.rounds + 1):
        try:
            round_ = {side.name: _run(side, plan, origin) for side in comparison.sides}
        except BenchError as error:
            result.broke = str(error)
            _say(f"{comparison.name}: {error}")
            return result
        result.rounds.append(round_)
        for side in comparison.sides:
            _say(f"{comparison.name}: round {number}/{plan.rounds}: {side.label}: {_shown(round_[side.name])}")
    return result


def _run(side: Side, plan: Plan, origin: Origin) -> Sample:
    with tempfile.TemporaryDirectory(prefix="hacd-bench-") as directory:
        return side.run(Stage(plan, origin, Path(directory)))


def _shown(sample: Sample) -> str:
    values = sample.values
    text = (
        f"{values['rate']:,.0f} queries/s" if "rate" in values else ", ".join(f"{k} {v:.1f}" for k, v in values.items())
    )
    return text + (f", {sample.failures} FAILED: {sample.failure}" if sample.failures else "")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
