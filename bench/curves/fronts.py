"""Throughput and cost per query over the number of fronts, four workers, eight callers who take turns."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Plot, Side, ratio

_QUERIES, _IN_FLIGHT, _CALLERS, _WORKERS = 30_000, 512, 8, 4

_POINTS = (1, 2)


def _point(count: int) -> Side:
    asked = Asked("hacd_pipes:callers", _QUERIES, _IN_FLIGHT, Hacd(workers=_WORKERS, fronts=count), callers=_CALLERS)
    return Side(str(count), f"{count} fronts" if count > 1 else "1 front", asked, "", count)


def comparison(_plan: Plan) -> Comparison:
    """Where a machine has fewer cores than there are processes at work, one more costs, and brings nothing."""
    one, *others = map(_point, _POINTS)
    return Comparison(
        "fronts",
        f"throughput over fronts, {_WORKERS} workers, {_CALLERS} callers, {_IN_FLIGHT} in flight",
        [one, *others],
        [
            measure
            for side in others
            for measure in (
                Measure(f"queries/s, {side.label} to 1", ratio("rate", side.name, one.name)),
                Measure(f"fronts' CPU, {side.label} to 1", ratio("cpu.front", side.name, one.name), falls=True),
                Measure(f"workers' CPU, {side.label} to 1", ratio("cpu.worker", side.name, one.name), falls=True),
            )
        ],
        note="CPU of the fronts and of the workers is that of all of them. "
        "Callers land on the front that is first to accept.",
        plots=(
            Plot("fronts", "Throughput over fronts", "fronts", "queries/s", {"rate": ""}, log_x=False),
            Plot(
                "fronts-cost",
                "Cost per query over fronts",
                "fronts",
                "CPU per query, µs",
                {"cpu.front": "fronts", "cpu.worker": "workers"},
                log_x=False,
            ),
        ),
    )
