"""The daemon's own routes that chain: a closed loop within the daemon, as the C module's figures were measured."""

from __future__ import annotations

from collections.abc import Sequence

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, Stage, ratio
from bench.comparisons.many import AIOHTTP
from bench.contenders.hacd_routes import SCRIPT
from bench.needs import module

_QUERIES, _IN_FLIGHT = 25_000, 64

#: ms that a chain may last: transactions of whoever waits are shorter
_CHAIN = 600_000


def _routes(stage: Stage) -> Sequence[str]:
    file = stage.directory / "routes.py"
    file.write_text(SCRIPT)
    return [f"routes={file}", f"transaction_timeout={_CHAIN}"]


HACD = Side("hacd", "hacd routes", Asked("hacd_routes:chains", _QUERIES, _IN_FLIGHT, Hacd(settings=_routes)))


def comparison(_plan: Plan) -> Comparison:
    """64 chains; the replies are counted by the routes, and by the daemon's statistics."""
    return Comparison(
        "routes",
        "daemon routes that chain, 64 chains",
        (HACD, AIOHTTP),
        (Measure("replies/s to aiohttp", ratio("rate", "hacd", "aiohttp"), 2.4, 3.0),),
        needs=(module("aiohttp"),),
    )
