"""Short replies, 64 in flight: the pipeline of the blocking client beside aiohttp and beside libcurl alone."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, ratio
from bench.needs import module

#: of all sides that are compared with this aiohttp
QUERIES, IN_FLIGHT = 25_000, 64

HACD = Side("hacd", "hacd query_many", Asked("hacd_blocking:many", QUERIES, IN_FLIGHT, Hacd()))
AIOHTTP = Side("aiohttp", "aiohttp", Asked("aiohttp_session:session", QUERIES, IN_FLIGHT))
BARE = Side("bare", "bare CurlMulti", Asked("bare_multi:multi", QUERIES, IN_FLIGHT))


def comparison(_plan: Plan) -> Comparison:
    """The first row of the table."""
    return Comparison(
        "many",
        "53-byte replies, 64 in flight, query_many",
        (HACD, AIOHTTP, BARE),
        (
            Measure("queries/s to aiohttp", ratio("rate", "hacd", "aiohttp"), 2.5, 3.0),
            Measure("queries/s to bare CurlMulti", ratio("rate", "hacd", "bare"), 0.6, 0.75),
        ),
        needs=(module("aiohttp"),),
    )
