"""Curves as SVG. The same figures give the same bytes: no date, no random ids; text stays text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.comparison import Plot, Result, Sample

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "hacd",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
}

#: a date would make each drawing another one
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))

#: inches
_SIZE = (6.0, 3.6)


def draw(results: Sequence[Result], directory: Path) -> list[Path]:
    """Write the plots of all results that have some; the files."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    files = []
    directory.mkdir(parents=True, exist_ok=True)
    for result in results:
        for plot in result.comparison.plots if result.rounds else ():
            files.append(directory / f"{plot.name}.svg")
            with rc_context(_SETTINGS):
                figure = Figure(figsize=_SIZE, layout="constrained")
                _fill(figure.subplots(), plot, result)
                figure.savefig(files[-1], format="svg", metadata=_NO_METADATA)
    return files


def _fill(axes: Any, plot: Plot, result: Result) -> None:
    curves = [curve for curve in _curves(plot, result) if curve[1]]
    for label, xs, samples in curves:
        middle = [median(values) for values in samples]
        below = [at - min(values) for at, values in zip(middle, samples, strict=True)]
        above = [max(values) - at for at, values in zip(middle, samples, strict=True)]
        axes.errorbar(xs, middle, yerr=[below, above], label=label, marker="o", markersize=3, linewidth=1, capsize=2)
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    _scale(axes, plot, sorted({x for _, xs, _ in curves for x in xs}))
    axes.grid(visible=True, linewidth=0.3)
    if len(curves) > 1:
        axes.legend(frameon=False)


def _scale(axes: Any, plot: Plot, xs: Sequence[float]) -> None:
    """Logarithmic where that was asked for, with a tick at each point; else from 0 on."""
    if plot.log_x:
        axes.set_xscale("log")
        axes.set_xticks(xs, [f"{x:,.0f}" for x in xs])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(_locator())
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlim(left=0)
    if plot.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _curves(plot: Plot, result: Result) -> list[tuple[str, list[float], list[list[float]]]]:
    """For each line and value: its name, the points' x, and at each what the rounds had."""
    curves = []
    for line in dict.fromkeys(side.line for side in result.comparison.sides):
        sides = [side for side in result.comparison.sides if side.line == line]
        for key, name in plot.values.items():
            points = [(side.x, _values(key, [round_[side.name] for round_ in result.rounds])) for side in sides]
            points = [(x, values) for x, values in points if values]
            label = ", ".join(filter(None, (line, name)))
            curves.append((label, [x for x, _ in points], [values for _, values in points]))
    return curves


def _values(key: str, samples: Sequence[Sample]) -> list[float]:
    return [sample.values[key] for sample in samples if key in sample.values]
