"""How many queries may be on their way to one origin. Plain code: no socket, no clock.

Each origin has a queue of its own, so that one that is slow holds up nobody who asks another. Who waits
here waits within his timeout, and that time is told as `queue`; a wait within libcurl is not.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the gate has to know of a transaction. `counted` is the gate's own."""

    origin: str
    counted: bool


T = TypeVar("T", bound=Waiting)


class Gate(Generic[T]):
    """Lets `limit` transactions for each origin through; 0: all."""

    def __init__(self) -> None:
        self.limit = 0
        self._through: dict[str, int] = {}
        # In the order of arrival; none is empty. In a dict the first would lie behind the places of all who have left.
        self._queues: dict[str, OrderedDict[T, None]] = {}

    @property
    def waiting(self) -> int:
        """Transactions that wait here."""
        return sum(map(len, self._queues.values()))

    def enter(self, transaction: T) -> bool:
        """Whether it may go on now; else it waits here until `leave` or `open` lets it through."""
        origin = transaction.origin
        count = self._through.get(origin, 0)
        if count >= self.limit:
            self._queues.setdefault(origin, OrderedDict())[transaction] = None
            return False
        self._through[origin] = count + 1
        transaction.counted = True
        return True

    def leave(self, transaction: T) -> T | None:
        """One that came through has ended; the next of its origin, which is through now, if one waits."""
        transaction.counted = False
        origin = transaction.origin
        count = self._through[origin] - 1
        if count:
            self._through[origin] = count
        else:
            del self._through[origin]
        return self._next(origin)

    def forget(self, transaction: T) -> None:
        """One that may wait here has ended."""
        queue = self._queues.get(transaction.origin)
        if queue is not None and transaction in queue:
            del queue[transaction]
            if not queue:
                del self._queues[transaction.origin]

    def open(self, limit: int) -> list[T]:
        """Let so many through from now on; those that need not wait any more."""
        self.limit = limit
        through: list[T] = []
        for origin in list(self._queues):
            while (transaction := self._next(origin)) is not None:
                through.append(transaction)
        return through

    def _next(self, origin: str) -> T | None:
        queue = self._queues.get(origin)
        if queue is None or (self.limit and self._through.get(origin, 0) >= self.limit):
            return None
        transaction = next(iter(queue))
        self.forget(transaction)
        self._through[origin] = self._through.get(origin, 0) + 1
        transaction.counted = True
        return transaction
