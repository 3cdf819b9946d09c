"""Latency over offered load, up to saturation: an open loop, whose queries leave when they are due."""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Plan, Plot, Side

#: queries per second
_RATES = (500, 1000, 2000, 5000, 10_000, 15_000, 20_000, 25_000, 30_000, 35_000, 40_000, 50_000)

#: s; and what is not answered by then comes late, but comes
_SECONDS = 2.0

#: Connections to the origin; what is more waits in the front. Without that bound, a daemon that is offered
#: too much dials one for each query that has come, and spends itself on those.
_CONNECTIONS = 256

_SETTINGS = ("connection_timeout=120000", f"max_host_connections={_CONNECTIONS}")


def _point(rate: int) -> Side:
    asked = Asked(
        "hacd_pipes:paced",
        int(rate * _SECONDS),
        1,
        Hacd(settings=lambda _: _SETTINGS),
        rate=rate,
        warm_up=max(64, rate // 10),
    )
    return Side(str(rate), f"{rate:,}/s offered", asked, "", rate)


def comparison(plan: Plan) -> Comparison:
    """A query's time begins when it is due. Where queries/s stay behind what is offered, the daemon is saturated."""
    return Comparison(
        "load",
        f"latency over offered load, max_host_connections {_CONNECTIONS}",
        [_point(rate) for rate in plan.points(*_RATES)],
        (),
        note="One caller, an open loop: a query's time begins when it is due. "
        "Where queries/s stay behind what is offered, all is saturated, and latencies grow with the length of the run.",
        plots=(
            Plot(
                "load",
                "Latency over offered load",
                "queries/s offered",
                "latency, µs",
                {"p50_us": "median", "p99_us": "99th percentile"},
                log_x=False,
                log_y=True,
            ),
        ),
    )
