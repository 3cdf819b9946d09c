"""The rounds as a table for people: medians over rounds with their spread, and ratios within rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from bench.contenders import CONTENDERS, MANY, ONE, Contender
from bench.measure import CALLER, Figures
from bench.rounds import Plan, Round

_FRONT, _WORKER, _ORIGIN = "front", "worker", "origin"

_HEAD = (
    *("contender", "queries/s", "min – max", "p50 µs", "p99 µs"),
    *("CPU caller", "front", "worker", "sum", "origin", "peak MiB caller", "front", "worker"),
)


def render(rounds: Sequence[Round], plan: Plan, machine: dict[str, str]) -> str:
    """All that is to be said, as Markdown."""
    parts = [", ".join(f"{name} {value}" for name, value in machine.items())]
    for group, in_flight in ((MANY, plan.in_flight), (ONE, 1)):
        contenders = [contender for contender in CONTENDERS if contender.group == group]
        queries = plan.queries_of(contenders[0])
        title = f"{in_flight} in flight, workers {plan.workers}: {queries:,} queries, medians of {plan.rounds} rounds"
        parts += [title, aligned(_HEAD, [_row(contender, rounds) for contender in contenders])]
        parts.append(aligned(("queries/s, within a round", "ratio", "min – max"), _ratios(contenders, rounds)))
    parts.append("CPU: µs per query of each process; sum: without the origin's.")
    return "\n\n".join(parts)


def _row(contender: Contender, rounds: Sequence[Round]) -> list[str]:
    """One contender's line."""
    figures = [round_[contender.name] for round_ in rounds]
    rates = [one.rate for one in figures]
    line = [contender.label, f"{median(rates):,.0f}", f"{min(rates):,.0f} – {max(rates):,.0f}"]
    line += [_median(figures, lambda one: one.p50_us, 0), _median(figures, lambda one: one.p99_us, 0)]
    line += [_cpu(figures, role) for role in (CALLER, _FRONT, _WORKER)]
    line.append(_median(figures, lambda one: sum(one.cpu_us.values()) - one.cpu_us[_ORIGIN], 1))
    line.append(_cpu(figures, _ORIGIN))
    return line + [_memory(figures, role) for role in (CALLER, _FRONT, _WORKER)]


def _median(figures: Sequence[Figures], value: Callable[[Figures], float], digits: int) -> str:
    return f"{median(map(value, figures)):,.{digits}f}"


def _cpu(figures: Sequence[Figures], role: str) -> str:
    return _median(figures, lambda one: one.cpu_us[role], 1) if role in figures[0].cpu_us else "–"


def _memory(figures: Sequence[Figures], role: str) -> str:
    return _median(figures, lambda one: one.memory_kib[role] / 1024, 1) if role in figures[0].memory_kib else "–"


def _ratios(contenders: Sequence[Contender], rounds: Sequence[Round]) -> list[list[str]]:
    """Each of hacd's against each other: the median of the rounds' ratios."""
    lines = []
    for ours in (contender for contender in contenders if contender.daemon):
        for other in (contender for contender in contenders if not contender.daemon):
            ratios = [round_[ours.name].rate / round_[other.name].rate for round_ in rounds]
            spread = f"{min(ratios):.2f} – {max(ratios):.2f}"
            lines.append([f"{ours.label} / {other.label}", f"{median(ratios):.2f}", spread])
    return lines


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well as it is: the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = []
    for row in (head, rule, *rows):
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
