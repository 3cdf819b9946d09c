"""Benchmarks: hacd beside an HTTP client in the caller's own process, and beside libcurl alone.

`python -m bench` starts an origin, lets each contender ask it the same in turn, round by round,
and prints a table. Machines are noisy: read the ratios, which are of contenders of one round.
"""

from __future__ import annotations

from pathlib import Path

#: where `-m bench` and `-m hacd` are found
ROOT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """The bench cannot go on; `status` is its exit code."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status
