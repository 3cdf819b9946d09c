"""Cost per query over the number of origins that are asked in turn: one nginx, on an address of loopback for each."""

from __future__ import annotations

from collections.abc import Callable

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Plan, Plot, Side, flatness
from bench.origin import Origin

_QUERIES, _IN_FLIGHT = 25_000, 64


def _first(count: int) -> Callable[[Origin], list[str]]:
    return lambda origin: origin.addresses[:count]


def _point(count: int) -> Side:
    asked = Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, Hacd(), urls=_first(count))
    return Side(str(count), f"{count:,}", asked, "", count)


def comparison(plan: Plan) -> Comparison:
    """Each query goes to the next origin."""
    points = [_point(count) for count in plan.points(1, 10, 50, 200)]
    return Comparison(
        "origins",
        "cost per query over origins",
        points,
        [*flatness(points, "cpu.front", "front's CPU"), *flatness(points, "cpu.worker", "worker's CPU")],
        note="64 in flight in all. The warm-up has asked each origin, and connections are kept.",
        plots=(
            Plot(
                "origins",
                "Cost per query over origins",
                "origins",
                "CPU per query, µs",
                {"cpu.front": "front", "cpu.worker": "worker"},
            ),
        ),
    )
