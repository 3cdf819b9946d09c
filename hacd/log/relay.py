"""The way of the log to the front, for who tails it. What the front does not take yet waits here.

Law: of what waits, the oldest goes when there is too much, and who tails is told how many lines went.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from hacd.log.entry import Entry

#: events that wait for the front
WAITING = 200


class Relay:
    """`send(event's map)` passes one on and says whether it did; it neither raises nor logs."""

    def __init__(self, send: Callable[[dict[str, Any]], bool]) -> None:
        self._send = send
        self.waiting: deque[Entry] = deque()
        self._lost = 0

    def take(self, event: Entry) -> None:
        """Pass an event on, behind those that wait. A sink for `log.pass_to`."""
        if len(self.waiting) >= WAITING:
            self.waiting.popleft()
            self._lost += 1
        self.waiting.append(event)
        self.flush()

    def flush(self) -> None:
        """Pass on what waits, as far as it is taken."""
        while self.waiting:
            event = self.waiting[0]
            if self._lost:
                if not self._send(skipped(event, self._lost).as_map()):
                    return
                self._lost = 0
            if not self._send(event.as_map()):
                return
            self.waiting.popleft()


def skipped(event: Entry, count: int) -> Entry:
    """What who tails is told in place of `count` lines before `event`."""
    return event._replace(level="warning", id="", route="", message=f"{count} lines before this one are skipped")
