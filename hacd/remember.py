"""What was worked out before, by what it was worked out of. A dict has it; this keeps it bounded."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(known: dict[K, V], key: K, value: V, most: int) -> V:
    """Keep `value`, and return it. Where `most` are known already, all are forgotten first.

    Keys that peers make up come without end: what comes again is known again soon.
    """
    if len(known) >= most:
        known.clear()
    known[key] = value
    return value
