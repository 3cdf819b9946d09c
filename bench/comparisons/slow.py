"""10,000 transactions suspended at once on a slow origin, beside 64 on one that answers sooner.

The origins differ in their delay alone, and so that as many queries leave in a second: what differs is how many wait.
"""

from __future__ import annotations

from bench.asked import Asked, Hacd
from bench.comparison import FLAT, Comparison, Measure, Plan, Round, Side, ratio
from bench.slow import serving

_MANY, _FEW = 10_000, 64

#: queries per second: with 10,000 suspended, each waits 2 s
_RATE = 5_000

#: ms; a query that waits in a queue of connections being made is not to end for that
_TIMEOUT = 60_000


def _asked(suspended: int, queries: int) -> Asked:
    delay = suspended * 1000 // _RATE
    return Asked(
        "hacd_blocking:many",
        queries,
        suspended,
        Hacd(settings=lambda _: [f"connection_timeout={_TIMEOUT}"]),
        origin=lambda stage: serving(stage.directory, delay),
        warm_up=suspended,  # makes the connections
    )


def _back(round_: Round) -> float:
    sample = round_["suspended"]
    return 100 * (1 - sample.failures / sample.values["queries"])


def comparison(plan: Plan) -> Comparison:
    """All come back, and cost the front and the worker what others do."""
    many = plan.points(_FEW, 1000, _MANY)[-1]
    front, worker = (ratio(f"cpu.{role}", "suspended", "few") for role in ("front", "worker"))
    return Comparison(
        "slow",
        f"{many:,} suspended at once on a slow origin ({many * 1000 // _RATE} ms)",
        (
            Side("suspended", f"{many:,} suspended", _asked(many, 3 * many)),
            Side("few", f"{_FEW} suspended, as many queries/s", _asked(_FEW, 3 * many)),
        ),
        (
            Measure("come back", _back, 100, unit="%"),
            Measure(f"front's CPU per query, to {_FEW} suspended", front, FLAT, falls=True),
            Measure(f"worker's CPU per query, to {_FEW} suspended", worker, FLAT, falls=True),
        ),
        note=f"The origin is `bench.slow`, in Python. Both sides have {_RATE:,} queries/s offered at the most.",
    )
