"""What another front was asked and has not answered. Plain code: no socket, and the clock is passed in.

Law: to look whose time is over costs what is due, and not what is asked. One that may not end yet is looked at again
after AGAIN, and not at every look until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

#: ns until a question whose time is over, and that may not end, is looked at again
AGAIN = 1_000_000_000


class Answer(NamedTuple):
    """How a question ended: with a result, an error as on the wire, or, where `missing` says why, with neither."""

    result: Any = None
    error: dict[str, str] | None = None
    missing: str = ""


#: takes how a question ended
Then = Callable[[Answer], None]

#: whether a question whose time is over ends so; if not, it waits on for the answer, or for the connection to break
MayEnd = Callable[[], bool]


class Asked(NamedTuple):
    """A question that is not answered: until when, ns, what, and who waits."""

    due: int
    method: str
    then: Then
    may_end: MayEnd


class Questions:
    """Those that one front is asked, by their numbers."""

    def __init__(self) -> None:
        self._row_of: dict[int, dict[int, Asked]] = {}
        self._rows: dict[int, dict[int, Asked]] = {}  # by time limit: so each is in the order in which they are due

    def __len__(self) -> int:
        return len(self._row_of)

    def add(self, number: int, asked: Asked, limit: int) -> None:
        """Asked at this moment, with `limit` ns until it is due."""
        row = self._rows.setdefault(limit, {})
        row[number] = asked
        self._row_of[number] = row

    def find(self, number: int) -> Asked | None:
        """That one, if it is not answered."""
        row = self._row_of.get(number)
        return None if row is None else row[number]

    def end(self, number: int) -> None:
        """It is answered, or never will be."""
        del self._row_of.pop(number)[number]

    def due(self, now: int) -> list[int]:
        """The numbers of those whose time is over."""
        found: list[int] = []
        for limit, row in list(self._rows.items()):
            found += _due_of(row, now)
            if not row:
                del self._rows[limit]  # a limit may be a setting, and change as often as that does
        return found

    def put_back(self, number: int, now: int) -> None:
        """It may not end yet."""
        asked = self._row_of.pop(number).pop(number)
        self.add(number, asked._replace(due=now + AGAIN), AGAIN)

    def end_all(self) -> list[Asked]:
        """Those that there were, the oldest of each time limit first."""
        all_ = [asked for row in self._rows.values() for asked in row.values()]
        self._row_of.clear()
        self._rows.clear()
        return all_


def _due_of(row: dict[int, Asked], now: int) -> Iterator[int]:
    for number, asked in row.items():
        if asked.due > now:
            return
        yield number
