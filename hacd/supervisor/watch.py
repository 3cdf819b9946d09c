"""Whether the front's loop turns. No process and no clock here: the time is passed in, in seconds.

Law: looks are counted, and not seconds. A supervisor that did not run itself, or a machine that was suspended, has
missed looks as well as beats, and nobody is to blame: what the front said meanwhile is heard before the next look.
"""

from __future__ import annotations

#: s between two looks; the front says that it lives at least as often
LOOK = 1.0

#: s that a front gets to turn for the first time: it loads its modules, and its routes
STARTS = 30.0


class Watch:
    """Looks at one front after the other. `due`: when the next look is; None while there is none to look at."""

    def __init__(self) -> None:
        self.due: float | None = None
        self._unheard = 0  # looks since it last said that it lives
        self._turned = False  # it has said so at all

    def begin(self, now: float) -> None:
        """A front was started."""
        self.due = now + LOOK
        self._unheard = 0
        self._turned = False

    def end(self) -> None:
        """It is gone, or is going: that has a deadline of its own."""
        self.due = None

    def alive(self) -> None:
        """It says that its loop turns."""
        self._unheard = 0
        self._turned = True

    def hangs(self, now: float, timeout: float) -> bool:
        """Look, if it is time to: True, and the end of this watch, where it was silent for `timeout` seconds."""
        if self.due is None or now < self.due:
            return False
        self.due = now + LOOK
        self._unheard += 1
        most = timeout if self._turned else max(timeout, STARTS)
        # The first look can come right after a beat, and the next beat a whole LOOK later: two more are let pass.
        if self._unheard <= most / LOOK + 1:
            return False
        self.end()
        return True
