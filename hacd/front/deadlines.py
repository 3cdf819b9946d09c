"""Who is due when. No clock: the time is passed in, ms of the monotonic clock.

A timer wheel: transactions lie in buckets of RESOLUTION ms, so that adding and removing cost
the same for one transaction and for a hundred thousand. None is due early; a bucket is due
once all its milliseconds are over.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from hacd.front.transactions import Transaction

RESOLUTION = 4

#: empty buckets that may lie about before they are swept out
SLACK = 256


class Deadlines:
    """The deadlines of the transactions in flight."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Transaction]] = {}
        self._order: list[int] = []  # the buckets' numbers, as a heap
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def add(self, transaction: Transaction, due: int) -> None:
        """`transaction` ends at `due` at the latest."""
        number = due // RESOLUTION
        transaction.bucket = number
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = set()
            heappush(self._order, number)
        bucket.add(transaction)
        self._live += 1

    def remove(self, transaction: Transaction) -> None:
        """`transaction` has ended, at its deadline or before."""
        self._live -= 1
        bucket = self._buckets.get(transaction.bucket)
        if bucket is not None:
            bucket.discard(transaction)
            if len(self._buckets) > 2 * self._live + SLACK:
                self._sweep()

    def due(self, now: int) -> list[Transaction]:
        """Those that are due at `now`; each still has to be removed, as at any other end."""
        late: list[Transaction] = []
        while self._order and (self._order[0] + 1) * RESOLUTION <= now:
            late += self._buckets.pop(heappop(self._order))
        return late

    def next(self) -> int | None:
        """When `due` has something to return, or None if nobody waits."""
        while self._order and not self._buckets[self._order[0]]:
            del self._buckets[heappop(self._order)]
        return (self._order[0] + 1) * RESOLUTION if self._order else None

    def _sweep(self) -> None:
        """Drop the empty buckets. Far deadlines that never come to pass would gather them."""
        self._buckets = {number: bucket for number, bucket in self._buckets.items() if bucket}
        self._order = list(self._buckets)
        heapify(self._order)
