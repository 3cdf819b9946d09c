"""What is kept of a run: raw figures and verdicts as JSON, the table as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import table
from bench.comparison import Measure, Result


def keep(json_file: Path, results: Sequence[Result], machine: Mapping[str, str], command: str) -> None:
    """Write the raw figures to that file, and the table beside it, as `.md`."""
    json_file.parent.mkdir(parents=True, exist_ok=True)
    whole = {"command": command, "machine": dict(machine), "comparisons": [as_map(result) for result in results]}
    json_file.write_text(json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    json_file.with_suffix(".md").write_text(table.render(results, machine, command) + "\n")


def as_map(result: Result) -> dict[str, Any]:
    """One comparison: its measures with what was to be reached, and every round's samples."""
    comparison = result.comparison
    return {
        "name": comparison.name,
        "title": comparison.title,
        "note": comparison.note,
        "skipped": result.skipped,
        "broke": result.broke,
        "failures": result.failures(),
        "sides": {side.name: {"label": side.label, "line": side.line, "x": side.x} for side in comparison.sides},
        "measures": [_measure(measure, result) for measure in comparison.measures] if result.rounds else [],
        "rounds": [{name: asdict(sample) for name, sample in round_.items()} for round_ in result.rounds],
    }


def _measure(measure: Measure, result: Result) -> dict[str, Any]:
    over = measure.over(result.rounds)
    said = {name: getattr(measure, name) for name in ("label", "unit", "at_least", "aim")}
    spread = {name: None if math.isnan(value) else value for name, value in asdict(over).items()}
    return said | {"less_is_better": measure.falls, **spread, "reached": result.verdict(measure)}
