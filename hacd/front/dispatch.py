"""Which worker gets a query. Plain code: no socket, no clock.

The worker that has connections to a query's origin is preferred: a kept connection saves a
round trip, and with TLS several. One that is busy is passed over for the least loaded, which
then has connections to that origin as well.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

#: in flight on a worker, from which on another may be better
BUSY = 32

#: origins whose worker is remembered
ORIGINS = 4096


class Loaded(Protocol):
    """What dispatch has to know of a worker."""

    @property
    def in_flight(self) -> int:
        """Transfers that it carries out."""


W = TypeVar("W", bound=Loaded)


class Dispatch(Generic[W]):
    """The workers that are there, and the one that each origin was given first."""

    def __init__(self) -> None:
        self.workers: list[W] = []
        self._homes: OrderedDict[str, W] = OrderedDict()

    def add(self, worker: W) -> None:
        """`worker` takes queries from now on."""
        self.workers.append(worker)

    def remove(self, worker: W) -> None:
        """`worker` takes no more queries; its connections are gone."""
        if worker in self.workers:
            self.workers.remove(worker)
        for origin in [origin for origin, home in self._homes.items() if home is worker]:
            del self._homes[origin]

    def choose(self, origin: str) -> W | None:
        """The worker for a query to `origin`, or None if there is none."""
        workers = self.workers
        if len(workers) == 1:
            return workers[0]
        home = self._homes.get(origin)
        if home is not None and home.in_flight < BUSY:
            return home
        if not workers:
            return None
        least = min(workers, key=_load)
        if home is not None:
            # Busy: spill, but the origin's home stays, for when the load is over.
            return least
        if len(self._homes) >= ORIGINS:
            self._homes.popitem(last=False)
        self._homes[origin] = least
        return least


def _load(worker: Loaded) -> int:
    return worker.in_flight
