"""What the front tells of itself: for `stats`, and for who looks at the daemon in one line."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hacd.front.front import Front

#: what of a worker is not a count
_NAMES = ("worker", "pid", "state", "restarts")


def brief(front: Front) -> dict[str, int]:
    """What an operator looks at first."""
    counts = front.statistics
    return {
        "in flight": front.transactions.live,
        "requests": counts.requests,
        "replies": counts.replies,
        "errors": counts.errors,
        "timeouts": counts.timeouts,
    }


def figures(front: Front) -> dict[str, Any]:
    """For `stats`."""
    in_flight = front.transactions.live
    return {
        **front.statistics.as_map(),
        "in_flight": in_flight,
        "suspended": in_flight - front.unsuspended,
        "clients": len(front.sessions),
        "waiting": front.fleet.gate.waiting,
        "in_routes": len(front.router.live),
        "held_bytes": front.account.total,
        "workers": front.fleet.figures(),
        "fronts": [_row(front)],
        "uptime_ms": front.uptime(),
        "stopping": front.stopping,
    }


def _row(front: Front) -> dict[str, Any]:
    """The front itself, as `stats` lists it."""
    row = {
        "front": front.number,
        "pid": os.getpid(),
        "in_flight": front.transactions.live,
        "requests": front.statistics.requests,
        "clients": len(front.sessions),
    }
    states = [(state, restarts) for number, _, state, restarts in front.states if number == front.number]
    state, restarts = states[0] if states else ("starting", 0)
    return row | {"state": state, "restarts": restarts}


def merged(front: Front, each: list[dict[str, Any]]) -> dict[str, Any]:
    """What the fronts tell of themselves, as one. Those that told nothing have a row without counts."""
    own = each[0]
    sums: Counter[str] = Counter()
    for figures_ in each:
        sums.update({name: value for name, value in figures_.items() if type(value) is int and name != "uptime_ms"})
    rows = {row["front"]: row for figures_ in each for row in figures_["fronts"]}
    for number, pid, state, restarts in front.states:
        row = rows.setdefault(number, {"front": number, "pid": pid, "in_flight": 0, "requests": 0, "clients": 0})
        row |= {"state": state, "restarts": restarts}
    return {name: sums.get(name, value) for name, value in own.items()} | {
        "workers": _workers([row for figures_ in each for row in figures_["workers"]]),
        "fronts": [rows[number] for number in sorted(rows)],
        "uptime_ms": max(figures_["uptime_ms"] for figures_ in each),
    }


def _workers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each worker, by its number."""
    workers: dict[int, dict[str, Any]] = {}
    for row in rows:
        known = workers.setdefault(row["worker"], {})
        for name, value in row.items():
            if name in _NAMES:
                known[name] = known.get(name) or value
            else:
                known[name] = known.get(name, 0) + value
    return [workers[number] for number in sorted(workers)]
