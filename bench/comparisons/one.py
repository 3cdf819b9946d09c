"""One query at a time: what the way through the daemon adds to a transfer done in the caller's process."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, difference, ratio
from bench.needs import module

_QUERIES = 6_000

HACD = Side("hacd", "hacd Client", Asked("hacd_blocking:one", _QUERIES, 1, Hacd()))
PERFORM = Side("perform", "pycurl perform", Asked("bare_easy:perform", _QUERIES, 1))
AIOHTTP = Side("aiohttp", "aiohttp", Asked("aiohttp_session:session", _QUERIES, 1))


def comparison(_plan: Plan) -> Comparison:
    """Of the median latencies the difference, in µs."""
    added = difference("p50_us", "hacd", "perform")
    return Comparison(
        "one",
        "1 in flight",
        (HACD, PERFORM, AIOHTTP),
        (
            Measure("p50 added to pycurl's in-process", added, 80, 50, unit="µs", falls=True, digits=0),
            Measure("p50 to aiohttp's", ratio("p50_us", "hacd", "aiohttp"), falls=True),
        ),
        needs=(module("aiohttp"),),
    )
