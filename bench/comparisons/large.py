"""Replies of 1 MiB, 16 in flight: bodies in shared memory, whose descriptors the caller takes."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, ratio
from bench.needs import module
from bench.origin import Origin

SIZE = 1024 * 1024

_QUERIES, _IN_FLIGHT = 600, 16


def _file(origin: Origin) -> list[str]:
    return [origin.file(SIZE)]


HACD = Side(
    "hacd",
    "hacd query_many, descriptors",
    Asked("hacd_blocking:views", _QUERIES, _IN_FLIGHT, Hacd(), urls=_file, size=SIZE),
)
AIOHTTP = Side("aiohttp", "aiohttp", Asked("aiohttp_session:session", _QUERIES, _IN_FLIGHT, urls=_file, size=SIZE))


def comparison(_plan: Plan) -> Comparison:
    """hacd's caller looks at each page of the mapped body; `bench.bodies` has the other ways to have one."""
    return Comparison(
        "large",
        "1 MiB replies, 16 in flight, descriptors",
        (HACD, AIOHTTP),
        (Measure("queries/s to aiohttp", ratio("rate", "hacd", "aiohttp"), 0.8, 1.2),),
        needs=(module("aiohttp"),),
    )
