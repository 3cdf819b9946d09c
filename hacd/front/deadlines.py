"""Who is due when. No clock: the time is passed in, ms of the monotonic clock.

A timer wheel: transactions lie in buckets of RESOLUTION ms, so that adding and removing cost
the same for one transaction and for a hundred thousand. None is due early; a bucket is due
once all its milliseconds are over.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

RESOLUTION = 4

#: empty buckets that may lie about before they are swept out
SLACK = 256


class Waiting(Protocol):
    """What has a deadline. `bucket` is for Deadlines alone."""

    bucket: int


D = TypeVar("D", bound=Waiting)


class Deadlines(Generic[D]):
    """The deadlines of what is in flight."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[D]] = {}
        self._order: list[int] = []  # the buckets' numbers, as a heap
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def add(self, item: D, due: int) -> None:
        """`item` ends at `due` at the latest."""
        number = due // RESOLUTION
        item.bucket = number
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = set()
            heappush(self._order, number)
        bucket.add(item)
        self._live += 1

    def remove(self, item: D) -> None:
        """`item` has ended, at its deadline or before."""
        self._live -= 1
        bucket = self._buckets.get(item.bucket)
        if bucket is not None:
            bucket.discard(item)
            if len(self._buckets) > 2 * self._live + SLACK:
                self._sweep()

    def due(self, now: int) -> list[D]:
        """Those that are due at `now`; each still has to be removed, as at any other end."""
        late: list[D] = []
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
