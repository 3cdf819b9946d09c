"""Results as a table for people: what was to be reached beside what was, and each comparison's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.comparison import Measure, Result, Sample

_SUMMARY = ("work", "measured", "median", "min – max", "at least", "aim", "reached")

_LEGEND = (
    "Each figure is the median over rounds; ratios are of sides of one round. "
    "CPU: µs per query of each process, from /proc; sum: without the origin's."
)


@dataclass(frozen=True)
class _Column:
    key: str
    head: str
    digits: int
    spread: bool = False


_COLUMNS = (
    _Column("rate", "queries/s", 0, spread=True),
    _Column("p50_us", "p50 µs", 0),
    _Column("p99_us", "p99 µs", 0),
    _Column("cpu.caller", "CPU caller", 1),
    _Column("cpu.front", "front", 1),
    _Column("cpu.worker", "worker", 1),
    _Column("cpu.sum", "sum", 1),
    _Column("cpu.origin", "origin", 1),
    _Column("peak.caller", "peak MiB caller", 1),
    _Column("peak.front", "front", 1),
    _Column("peak.worker", "worker", 1),
    _Column("connections", "connections", 0),
    _Column("pss.supervisor", "PSS MiB supervisor", 1),
    _Column("pss.front", "front", 1),
    _Column("pss.worker", "worker", 1),
    _Column("pss.sum", "sum", 1, spread=True),
    _Column("ready_ms", "READY ms", 0, spread=True),
    _Column("command_ms", "command ms", 0, spread=True),
)


def render(results: Sequence[Result], machine: Mapping[str, str], command: str) -> str:
    """All that is to be said, as Markdown."""
    parts = [f"`{command}` on: " + ", ".join(f"{name} {value}" for name, value in machine.items())]
    rows = [row for result in results if result.rounds for row in summary(result)]
    if rows:
        parts.append(aligned(_SUMMARY, rows, texts=2))
    parts += [f"Skipped: {result.comparison.name}: {result.skipped}" for result in results if result.skipped]
    for result in results:
        parts += detail(result)
    return "\n\n".join([*parts, _LEGEND])


def summary(result: Result) -> list[list[str]]:
    """A row for each measure: the table of what was to be reached."""
    rows = []
    for number, measure in enumerate(result.comparison.measures):
        over = measure.over(result.rounds)
        figures = [_with_unit(measure, over.median), f"{_short(measure, over.least)} – {_short(measure, over.most)}"]
        goals = ["" if bound is None else _goal(measure, bound) for bound in (measure.at_least, measure.aim)]
        title = "" if number else result.comparison.title
        rows.append([title, measure.label, *figures, *goals, result.verdict(measure)])
    return rows


def _short(measure: Measure, value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.{measure.digits}f}"


def _with_unit(measure: Measure, value: float) -> str:
    return f"{_short(measure, value)} {measure.unit}"


def _goal(measure: Measure, bound: float) -> str:
    return f"{'≤' if measure.falls else '≥'} {_with_unit(measure, bound)}"


def detail(result: Result) -> list[str]:
    """A comparison's own figures: a title, a line for each side, and what a reader has to know."""
    rounds, comparison = result.rounds, result.comparison
    parts = [f"### {comparison.title} (`{comparison.name}`, {len(rounds)} rounds)"] if rounds else []
    if rounds:
        sides = [(side.label, [round_[side.name] for round_ in rounds]) for side in comparison.sides]
        columns = [column for column in _COLUMNS if any(column.key in one[0].values for _, one in sides)]
        head = ["", *(word for column in columns for word in (column.head, "min – max")[: 1 + column.spread])]
        parts.append(aligned(head, [[label, *_cells(columns, samples)] for label, samples in sides]))
    if rounds and comparison.note:
        parts.append(comparison.note)
    if failures := result.failures():
        parts.append("FAILED:\n" + "\n".join(f"- {line}" for line in failures))
    return parts


def _cells(columns: Sequence[_Column], samples: Sequence[Sample]) -> list[str]:
    cells = []
    for column in columns:
        values = [sample.values[column.key] for sample in samples if column.key in sample.values]
        cells.append(f"{median(values):,.{column.digits}f}" if values else "–")
        if column.spread:
            cells.append(f"{min(values):,.{column.digits}f} – {max(values):,.{column.digits}f}" if values else "–")
    return cells


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table that also reads well as it is: the first columns, `texts`, to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [
        ":" + "-" * max(1, width - 1) if at < texts else "-" * max(1, width - 1) + ":"
        for at, width in enumerate(widths)
    ]
    lines = []
    for row in (head, rule, *rows):
        cells = [
            cell.ljust(width) if at < texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
