"""Cost per query over the number of transactions that are suspended meanwhile, on an origin that never answers."""

from __future__ import annotations

from functools import partial

from bench import held
from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Plan, Plot, Side, flatness

_QUERIES, _IN_FLIGHT = 25_000, 64

#: What is on its way to one origin at once; the rest waits in the front's queue. Each would have its connection.
_ON_THEIR_WAY = 1000


def _point(count: int) -> Side:
    hacd = Hacd(settings=lambda _: [f"max_host_connections={_ON_THEIR_WAY}"], beside=partial(held.transactions, count))
    return Side(str(count), f"{count:,}", Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, hacd), "", count)


def comparison(plan: Plan) -> Comparison:
    """Flat in the front and in the worker."""
    points = [_point(count) for count in plan.points(1, 100, 1000, 10_000, 100_000)]
    return Comparison(
        "suspended",
        "cost per query over suspended transactions",
        points,
        [*flatness(points, "cpu.front", "front's CPU"), *flatness(points, "cpu.worker", "worker's CPU")],
        note=f"Of the suspended ones {_ON_THEIR_WAY:,} are on their way (`max_host_connections`), "
        "the others wait in the front's queue; the measured queries go to another origin, 64 in flight.",
        plots=(
            Plot(
                "suspended",
                "Cost per query over suspended transactions",
                "suspended transactions",
                "CPU per query, µs",
                {"cpu.front": "front", "cpu.worker": "worker"},
            ),
        ),
    )
