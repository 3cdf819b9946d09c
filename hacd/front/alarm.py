"""Deadlines, and the timer that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from hacd.front.deadlines import D, Deadlines
from hacd.loop import Loop, Timer


class Alarm(Generic[D]):
    """Calls `on_due(items)` when their deadlines are over. `clock` gives ms; so are all times here."""

    def __init__(self, loop: Loop, clock: Callable[[], int], on_due: Callable[[list[D]], None]) -> None:
        self._deadlines: Deadlines[D] = Deadlines()
        self.remove = self._deadlines.remove
        self._timer = Timer(loop)
        self._armed: int | None = None
        self._clock = clock
        self._on_due = on_due

    def add(self, item: D, due: int, now: int) -> None:
        """`item` ends at `due` at the latest; `remove` takes it back."""
        if self._deadlines.add(item, due) and (self._armed is None or due < self._armed):
            self._arm(now)

    def _arm(self, now: int) -> None:
        """Set the timer to the next deadline."""
        self._armed = self._deadlines.next()
        if self._armed is not None:
            self._timer.start(self._expire, max(self._armed - now, 0) / 1000, 0)

    def _expire(self, _timer: Any) -> None:
        now = self._clock()
        due = self._deadlines.due(now)
        self._arm(now)
        if due:
            self._on_due(due)
