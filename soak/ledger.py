"""What was asked, and what came of it. No socket here.

Law: a query is settled once: by its outcome, by a refusal, or by the end of its connection, which tells
its caller that the outcome is not known. An outcome beyond that is a duplicate; a query without one is lost.
"""

from __future__ import annotations

import threading
import time
from collections import Counter


class Ledger:
    """The account of all callers. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._next = 0
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.duplicates = 0
        self._last_reply = time.monotonic()
        self._worst_gap = 0.0

    def ask(self) -> int:
        """A query is about to be sent; its number, which travels as `xdata`."""
        with self._lock:
            self._next += 1
            self._open.add(self._next)
            self.counts["sent"] += 1
            return self._next

    def settle(self, number: int, how: str, err: str = "") -> None:
        """It has ended: `replies`, `errors`, `timeouts`, `refused` or `told by the end of the connection`."""
        with self._lock:
            if number not in self._open:
                self.duplicates += 1
                return
            self._open.remove(number)
            self.counts[how] += 1
            if err:
                self.errors[err[:60]] += 1
            if how == "replies":
                now = time.monotonic()
                self._worst_gap = max(self._worst_gap, now - self._last_reply)
                self._last_reply = now

    @property
    def lost(self) -> int:
        """Queries that have no end."""
        with self._lock:
            return len(self._open)

    def take_worst_gap(self) -> float:
        """The longest time between two replies since this was asked last, seconds."""
        with self._lock:
            now = time.monotonic()
            worst = max(self._worst_gap, now - self._last_reply)
            self._worst_gap = 0.0
            return worst
