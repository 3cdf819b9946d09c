"""The front's counters: the manual's four, and what else an operator asks for.

Law: `requests = replies + errors + timeouts + in_flight`, at every moment.
"""

from __future__ import annotations

from hacd.errors import BUSY, Refused
from hacd.outcome import TIMED_OUT


class Ends:
    """The manual's counters, of the daemon or of one worker: queries, and how they ended."""

    __slots__ = ("errors", "replies", "requests", "timeouts")

    def __init__(self) -> None:
        self.requests = 0  # queries accepted
        self.replies = 0  # ended with a reply, whatever its HTTP status
        self.errors = 0  # ended with an error of curl's or of hacd's
        self.timeouts = 0  # ended at their deadline, or by a time-out that curl found first

    def end(self, code: int) -> None:
        """A query has ended with that code of curl's."""
        if not code:
            self.replies += 1
        elif code == TIMED_OUT:
            self.timeouts += 1
        else:
            self.errors += 1

    def as_map(self) -> dict[str, int]:
        """The counters by name."""
        names = ("requests", "replies", "errors", "timeouts")
        return {name: getattr(self, name) for name in names}


class Statistics(Ends):
    """Counts since the front started."""

    __slots__ = ("busy", "cut", "denied", "late", "refused", "retried", "shm_fallbacks", "shm_used", "undelivered")

    def __init__(self) -> None:
        super().__init__()
        self.late = 0  # outcomes that came after their transaction had been resumed
        self.undelivered = 0  # outcomes of unsuspended queries with nobody left to take them
        self.busy = 0  # calls refused with `busy`
        self.cut = 0  # connections cut off: their callers did not read, or held most of `max_memory`
        self.retried = 0  # queries that a second worker got, since the first was lost
        self.refused = 0  # calls refused for any other reason
        self.denied = 0  # of the errors, those that `[egress]` refused
        self.shm_fallbacks = 0  # bodies that found no room in shared memory
        self.shm_used = 0  # bytes of bodies in shared memory that the front holds: no counter, but what is there now

    def refuse(self, refusal: Refused) -> None:
        """Count a call that is refused."""
        if refusal.code == BUSY:
            self.busy += 1
        else:
            self.refused += 1

    def as_map(self) -> dict[str, int]:
        """The counters by name."""
        return super().as_map() | {name: getattr(self, name) for name in self.__slots__}
