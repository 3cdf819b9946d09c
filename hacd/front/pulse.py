"""What the front's loop tells the supervisor while it turns: that it does, and what it has counted.

Law: it is the loop itself that says so. Were it a thread, a stuck loop would look alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hacd import rpc
from hacd.front.figures import brief
from hacd.front.front import Front
from hacd.loop import Loop, Timer
from hacd.words import ALIVE, FIGURES

#: s between two reports of the figures, where they have changed
REPORT = 1.0


class Duties(NamedTuple):
    """What is wanted of a front."""

    #: the public socket is systemd's: it stays, and keeps who dials, when the daemon ends
    activated: bool = False
    #: somebody reads the figures
    figures: bool = False
    #: s between two signs of life: for the supervisor, and for systemd's watchdog through it
    beat: float = 1.0
    #: the number of this front
    number: int = 1
    #: where workers and other fronts dial, of all fronts by their numbers
    paths: tuple[str, ...] = ("",)
    #: how often the settings that it begins with were changed
    version: int = 0


class Pulse:
    """`say(word, what)` tells the supervisor; it neither waits nor fails."""

    def __init__(self, loop: Loop, front: Front, duties: Duties, say: Callable[[bytes, bytes], None]) -> None:
        self._front = front
        self._say = say
        self._told: dict[str, int] = {}
        self._beat = Timer(loop)
        self._beat.start(self._alive, 0, duties.beat)
        self._report = Timer(loop)
        if duties.figures:
            self._report.start(self._figures, 0, REPORT)

    def _alive(self, _timer: Any) -> None:
        self._say(ALIVE, b"")

    def _figures(self, _timer: Any) -> None:
        figures = brief(self._front)
        if figures != self._told:
            self._told = figures
            self._say(FIGURES, rpc.pack(figures))
