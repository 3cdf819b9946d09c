"""What the front tells of itself: for `stats`, and for who looks at the daemon in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hacd.front.front import Front


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
        "uptime_ms": front.uptime(),
        "stopping": front.stopping,
    }
