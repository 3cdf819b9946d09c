"""The comparisons and the curves, a module each: `comparison()` or `curve(plan)` in it says what is compared.

To add one: a module, and its name here.
"""

from __future__ import annotations

from importlib import import_module

from bench.comparison import Comparison, Plan

#: in the order of the table
COMPARISONS = ("many", "wide", "tasks", "one", "medium", "large", "https", "http2", "routes", "slow", "idle", "safety")

#: cost over growth, and speed over load
CURVES = ("suspended", "callers", "origins", "load", "in_flight", "workers", "fronts")

NAMES = COMPARISONS + CURVES


def of(name: str, plan: Plan) -> Comparison:
    """The comparison of that name."""
    home = "bench.comparisons" if name in COMPARISONS else "bench.curves"
    made: Comparison = import_module(f"{home}.{name}").comparison(plan)
    return made
