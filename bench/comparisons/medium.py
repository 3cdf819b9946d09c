"""Replies of 64 KiB, 16 in flight: bodies that travel in the message."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, ratio
from bench.needs import module
from bench.origin import Origin

SIZE = 64 * 1024

_QUERIES, _IN_FLIGHT = 6_000, 16


def _file(origin: Origin) -> list[str]:
    return [origin.file(SIZE)]


HACD = Side("hacd", "hacd query_many", Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, Hacd(), urls=_file, size=SIZE))
AIOHTTP = Side("aiohttp", "aiohttp", Asked("aiohttp_session:session", _QUERIES, _IN_FLIGHT, urls=_file, size=SIZE))


def comparison(_plan: Plan) -> Comparison:
    """Both have the whole body as bytes."""
    return Comparison(
        "medium",
        "64 KiB replies, 16 in flight",
        (HACD, AIOHTTP),
        (Measure("queries/s to aiohttp", ratio("rate", "hacd", "aiohttp"), 1.5, 2.0),),
        needs=(module("aiohttp"),),
    )
