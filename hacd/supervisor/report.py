"""What systemd is told of the daemon, and when.

Law: READY comes when every worker has answered, and not before. WATCHDOG is the front's to say: its loop's beat is
passed on as it comes, and none is made up here, so that neither a stuck front nor a stuck supervisor looks alive.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import Enum
from typing import Any

from hacd.supervisor.children import Child, State
from hacd.supervisor.notify import Notify


class Phase(Enum):
    """Where the daemon is in its life."""

    STARTING = "starting"
    READY = "ready"
    RELOADING = "reloading"
    STOPPING = "stopping"


#: states of a child that are no news
_USUAL = (State.RUNNING, State.STOPPING, State.ENDED)


class Report:
    """Tells `notify` what becomes of the daemon and of its children."""

    def __init__(self, notify: Notify, children: Iterable[Child]) -> None:
        self._notify = notify
        self._children = list(children)
        self._phase = Phase.STARTING
        self._figures: dict[str, Any] = {}
        self._told = ""

    def turn(self) -> None:
        """Once each turn of the supervisor's: STATUS, if it is another than before."""
        if not self._notify.wanted:
            return
        text = status(self._phase, self._figures, self._children)
        if text != self._told:
            self._told = text
            self._notify.aside(f"STATUS={text}")

    def ready(self) -> None:
        """Every worker has answered."""
        if self._phase is Phase.STARTING:
            self._phase = Phase.READY
            self._notify.state("READY=1")

    def reloading(self) -> None:
        """The settings are about to be read again. One that is not ready yet has nothing to take back."""
        if self._phase in (Phase.READY, Phase.RELOADING):
            self._phase = Phase.RELOADING
            self._notify.state("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """They have been, or were refused: either way the daemon serves."""
        if self._phase is Phase.RELOADING:
            self._phase = Phase.READY
            self._notify.state("READY=1")

    def stopping(self, longest: float) -> None:
        """It ends, and takes `longest` seconds at the most: the unit's own time to stop may be shorter."""
        self._phase = Phase.STOPPING
        self._notify.state("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(longest * 1_000_000)}")

    def alive(self) -> None:
        """The front's loop turns."""
        if self._notify.watchdog:
            self._notify.aside("WATCHDOG=1")

    def count(self, figures: dict[str, Any]) -> None:
        """What the front has counted; nothing where there is no front."""
        self._figures = figures


def status(phase: Phase, figures: dict[str, Any], children: list[Child]) -> str:
    """The daemon in one line: its phase, the front's figures, and each child that is not as it should be."""
    parts = [phase.value]
    if figures:
        parts[0] += ": " + ", ".join(f"{count} {name}" for name, count in figures.items())
    return "; ".join(parts + [f"{child.name}: {child.state.value}" for child in children if child.state not in _USUAL])
