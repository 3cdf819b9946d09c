"""Lines that others can cause as often as they like: some of them, and how many there were."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

_LOGGER = logging.getLogger("hacd")

#: lines in a second; one more is counted
RATE = 10


class Sparing:
    """Logs RATE warnings a second. The next one after those left out says how many they were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._left = 0
        self._skipped = 0

    def warning(
        self, text: str, *values: object, to: logging.LoggerAdapter[logging.Logger] | logging.Logger = _LOGGER
    ) -> None:
        """Log it, to the logger `to`, or count it."""
        now = self._clock()
        if now >= self._until:
            self._until, self._left = now + 1, RATE
        if not self._left:
            self._skipped += 1
            return
        self._left -= 1
        if self._skipped:
            text += f" ({self._skipped} lines like this were left out before)"
            self._skipped = 0
        to.warning(text, *values)
