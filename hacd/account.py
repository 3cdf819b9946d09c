"""Bytes that callers make a process hold, as one sum with one bound. No socket and no clock.

Law: nothing is held that is not in the sum, but for what is small and bounded by its number: LEAST of a connection,
TRIFLE of a query. Past `limit`, of the user who holds most, the connection that does is cut off: nobody outlasts others
by having many. The others notice nothing. Queries take
QUERIES of it at the most, and are refused past that: so there is always room to read what others have to say.
"""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from sys import getsizeof
from typing import Protocol

from hacd.errors import BUSY, Refused

#: bytes that a connection may hold before they are counted: as much as one read brings
LEAST = 65536

#: characters of a query that are not counted, where each of its headers is EACH longer: an object's own bytes
TRIFLE, EACH = 1024, 50

#: what queries may take of the limit
QUERIES = 0.75


class Holder(Protocol):
    """A connection: halves of messages that it sent, and replies that it has not taken."""

    #: whose it is
    uid: int

    def cut_off(self, why: str) -> None:
        """End it at once. It says then that it holds nothing."""


class Account:
    """The sum. `total`: all bytes; `queries`: those of queries, in flight and in routes, and of routes registered."""

    def __init__(self) -> None:
        self.limit = 0
        self.total = self.queries = 0
        self._of: dict[Holder, int] = {}

    # -- connections

    def note(self, holder: Holder, size: int) -> None:
        """A connection holds that much now."""
        self.total += size - self._of.get(holder, 0)
        if size:
            self._of[holder] = size
        else:
            self._of.pop(holder, None)

    def relieve(self) -> None:
        """Cut off who holds most, until the sum is within its limit. What queries hold is not cut off."""
        while self.total > self.limit and self._of:
            users: Counter[int] = Counter()
            for each, size in self._of.items():
                users[each.uid] += size
            ((uid, _),) = users.most_common(1)
            size, holder = max(((size, each) for each, size in self._of.items() if each.uid == uid), key=itemgetter(0))
            self.note(holder, 0)  # in any case: this loop has an end
            holder.cut_off(f"holds {size} bytes, the most of the user who holds most of max_memory ({self.limit})")

    # -- queries

    def has_room(self, size: int) -> bool:
        """Whether queries and routes may hold that much more."""
        return self.queries + size <= self.limit * QUERIES

    def admit(self, size: int) -> None:
        """Raise Refused where that is more than there is room for."""
        if not self.has_room(size):
            held = f"queries and routes hold {self.queries}"
            raise Refused(BUSY, f"max_memory ({self.limit} bytes): {held}, this would take {size} more")

    def take(self, size: int) -> None:
        """A query, or a route, holds that much from now on; less than nothing gives it back."""
        self.queries += size
        self.total += size


class Entry:
    """One connection's own; `account` is None where nobody counts."""

    def __init__(self, account: Account | None) -> None:
        self._account = account
        self.noted = 0

    def note(self, holder: Holder, size: int) -> None:
        """The connection holds that much now. It is not kept here: that would be a cycle."""
        size = size if size >= LEAST else 0
        if size != self.noted and self._account is not None:
            self.noted = size
            self._account.note(holder, size)

    def judge(self) -> None:
        """See to the bound at once, and not at the end of the turn: a thousand others may send as much until then."""
        account = self._account
        if account is not None and account.total > account.limit:
            account.relieve()


def weigh(*values: object) -> int:
    """Bytes that these values take. They have no others within them."""
    return sum(map(getsizeof, values))
