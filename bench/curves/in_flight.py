"""Throughput over the number of queries in flight, beside aiohttp and libcurl alone."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Plan, Plot, Side
from bench.needs import module

_POINTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

#: with few in flight it takes longer: so many queries for the first, and more with each
_LEAST, _EACH, _MOST = 3_000, 250, 20_000

_LINES = {
    "hacd query_many": ("hacd_blocking:many", True),
    "aiohttp": ("aiohttp_session:session", False),
    "bare CurlMulti": ("bare_multi:multi", False),
}


def _point(count: int, line: str) -> Side:
    home, daemon = _LINES[line]
    queries = min(_MOST, _LEAST + _EACH * count)
    asked = Asked(home, queries, count, Hacd() if daemon else None)
    return Side(f"{home.partition('_')[0]}-{count}", f"{line}, {count}", asked, line, count)


def comparison(plan: Plan) -> Comparison:
    """Three lines; contenders of one number in flight run next to each other."""
    return Comparison(
        "in_flight",
        "throughput over in flight",
        [_point(count, line) for count in plan.points(*_POINTS) for line in _LINES],
        (),
        needs=(module("aiohttp"),),
        plots=(Plot("in-flight", "Throughput over queries in flight", "in flight", "queries/s", {"rate": ""}),),
    )
