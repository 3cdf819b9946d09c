"""Who is due when. No clock: the time is passed in, ms of the monotonic clock.

A timer wheel: transactions lie in buckets of RESOLUTION ms, so that adding and removing cost
the same for one transaction and for a hundred thousand. None is due early; a bucket is due
once all its milliseconds are over.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Generic, Protocol, TypeVar

RESOLUTION = 4

#: empty buckets that may lie about, beside as many as are not, before they are swept out
SLACK = 256


class Waiting(Protocol):
    """What has a deadline. `bucket` is for Deadlines alone."""

    bucket: set[Any]


D = TypeVar("D", bound=Waiting)


class Deadlines(Generic[D]):
    """The deadlines of what is in flight."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[D]] = {}
        self._order: list[int] = []  # the buckets' numbers, as a heap
        self._late: list[set[D]] = []  # buckets that were due, and whose items have not ended yet
        self._sweep_at = SLACK

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values())) + sum(map(len, self._late))

    def add(self, item: D, due: int) -> bool:
        """`item` ends at `due` at the latest. Whether that may be earlier than all others."""
        number = due // RESOLUTION
        bucket = self._buckets.get(number)
        if bucket is not None:
            item.bucket = bucket
            bucket.add(item)
            return False
        item.bucket = self._buckets[number] = {item}
        heappush(self._order, number)
        if len(self._buckets) > self._sweep_at:
            self._sweep()
        return True

    def remove(self, item: D) -> None:
        """`item` has ended, at its deadline or before."""
        item.bucket.discard(item)

    def due(self, now: int) -> list[D]:
        """Those that are due at `now`; each still has to be removed, as at any other end."""
        late: list[D] = []
        self._late = [bucket for bucket in self._late if bucket]
        while self._order and (self._order[0] + 1) * RESOLUTION <= now:
            bucket = self._buckets.pop(heappop(self._order))
            late += bucket
            self._late.append(bucket)
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
        self._sweep_at = 2 * len(self._buckets) + SLACK - 2  # the one just made is among them
