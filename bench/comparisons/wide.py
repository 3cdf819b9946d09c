"""Short replies, 512 in flight and two workers."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, ratio
from bench.needs import module

_QUERIES, _IN_FLIGHT = 25_000, 512

HACD = Side("hacd", "hacd query_many, 2 workers", Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, Hacd(workers=2)))
AIOHTTP = Side("aiohttp", "aiohttp", Asked("aiohttp_session:session", _QUERIES, _IN_FLIGHT))


def comparison(_plan: Plan) -> Comparison:
    """The second row of the table."""
    return Comparison(
        "wide",
        "53-byte replies, 512 in flight, 2 workers",
        (HACD, AIOHTTP),
        (Measure("queries/s to aiohttp", ratio("rate", "hacd", "aiohttp"), 2.5, 3.5),),
        needs=(module("aiohttp"),),
    )
