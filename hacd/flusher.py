"""One write for each peer and wake-up of the loop: who has gathered something is written before the loop waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hacd.loop import Loop, Prepare


class Dirty(Protocol):
    """What has gathered something to be written."""

    def flush(self) -> None:
        """Write it."""


class Flusher:
    """Writes, before the loop waits, what the channels gathered."""

    def __init__(self, loop: Loop) -> None:
        self.dirty: list[Dirty] = []
        self._prepare = Prepare(loop)

    def start(self, before: Callable[[], None], after: Callable[[], None] | None = None) -> None:
        """Flush from now on. `before` runs first each time: what it sends leaves at once too; `after` last."""

        def prepared(_handle: Any) -> None:
            before()
            if self.dirty:
                self.flush()
            if after is not None:
                after()

        self._prepare.start(prepared)

    def flush(self) -> None:
        """Write now. A caller who is cut off here has its transfers called off: that leaves too."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for channel in dirty:
                channel.flush()
