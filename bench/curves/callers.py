"""Cost per query over the number of callers: of those who are connected, and of those who take turns at asking."""

from __future__ import annotations

from functools import partial

from bench import held
from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Plan, Plot, Side, flatness

_QUERIES, _IN_FLIGHT = 25_000, 64

_CONNECTED, _ASKING = "connected", "asking in turn"


def _connected(count: int) -> Side:
    """One of them asks."""
    hacd = Hacd(beside=partial(held.callers, count - 1))
    asked = Asked("hacd_pipes:callers", _QUERIES, _IN_FLIGHT, hacd)
    return Side(f"connected-{count}", f"{count:,} connected", asked, _CONNECTED, count)


def _asking(count: int) -> Side:
    asked = Asked("hacd_pipes:callers", _QUERIES, _IN_FLIGHT, Hacd(), callers=count)
    return Side(f"asking-{count}", f"{count:,} asking in turn", asked, _ASKING, count)


def comparison(plan: Plan) -> Comparison:
    """With more callers who ask, a wake-up brings each fewer replies, and each reply has a write of its own."""
    counts = plan.points(1, 10, 100, 1000)
    connected, asking = list(map(_connected, counts)), list(map(_asking, counts))
    return Comparison(
        "callers",
        "cost per query over callers",
        (*connected, *asking),
        [
            *flatness(connected, "cpu.front", "front's CPU"),
            *flatness(connected, "cpu.worker", "worker's CPU"),
            *flatness(asking, "cpu.front", "front's CPU"),
        ],
        note="64 in flight in all. Connected: one of them asks. Asking in turn: each next query is another caller's.",
        plots=(
            Plot(
                "callers",
                "Cost per query over callers",
                "callers",
                "CPU per query, µs",
                {"cpu.front": "front", "cpu.worker": "worker"},
            ),
        ),
    )
