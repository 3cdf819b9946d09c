"""Tasks that await: AsyncClient beside aiohttp, in speed and in what it costs the caller's own process."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, ratio
from bench.comparisons.many import AIOHTTP, IN_FLIGHT, QUERIES
from bench.needs import module

HACD = Side("hacd", "hacd AsyncClient", Asked("hacd_asyncio:tasks", QUERIES, IN_FLIGHT, Hacd()))
UVLOOP = Side("aiohttp-uvloop", "aiohttp, uvloop", Asked("aiohttp_session:uvloop", QUERIES, IN_FLIGHT))


def comparison(_plan: Plan) -> Comparison:
    """The third row of the table. aiohttp's whole cost is in the caller's process."""
    return Comparison(
        "tasks",
        "AsyncClient, 64 tasks that await",
        (HACD, AIOHTTP, UVLOOP),
        (
            Measure("queries/s to aiohttp", ratio("rate", "hacd", "aiohttp"), 1.2, 1.6),
            Measure("caller's CPU to aiohttp's", ratio("cpu.caller", "hacd", "aiohttp"), 1 / 2, 1 / 3, falls=True),
            Measure("queries/s to aiohttp on uvloop", ratio("rate", "hacd", "aiohttp-uvloop")),
        ),
        needs=(module("aiohttp", "uvloop"),),
    )
