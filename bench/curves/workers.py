"""Throughput over the number of workers, 512 in flight, and what of the CPU the front has by then."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Plot, Side, ratio

_QUERIES, _IN_FLIGHT = 30_000, 512

_POINTS = (1, 2, 3, 4)


def _point(count: int) -> Side:
    asked = Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, Hacd(workers=count))
    return Side(str(count), f"{count} workers" if count > 1 else "1 worker", asked, "", count)


def comparison(_plan: Plan) -> Comparison:
    """Where a machine has fewer cores than there are processes at work, more workers bring nothing."""
    points = list(map(_point, _POINTS))
    return Comparison(
        "workers",
        "throughput over workers, 512 in flight",
        points,
        [Measure(f"queries/s, {side.label} to 1", ratio("rate", side.name, "1")) for side in points[1:]],
        note="CPU of the workers is that of all of them.",
        plots=(
            Plot("workers", "Throughput over workers", "workers", "queries/s", {"rate": ""}, log_x=False),
            Plot(
                "workers-cost",
                "Cost per query over workers",
                "workers",
                "CPU per query, µs",
                {"cpu.front": "front", "cpu.worker": "workers"},
                log_x=False,
            ),
        ),
    )
