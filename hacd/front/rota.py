"""Whose turn it is: what all callers together may take of one turn of the loop. No socket, and the clock is passed in.

Law: once SHARE is gone, nobody is read, and nobody's calls are carried out, before the loop has turned: a budget of
each caller's own bounds nothing where there are thousands. Who was left out comes first then, in the order in which he
came. Calls that take as long as thousands of others have a queue of their own, of which one is made in each turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hacd.channel import Channel
from hacd.loop import READABLE

#: ns of one turn that callers may take: once for those who were left out, and once for those who are readable. Whoever
#: is within it when he begins has all of his own budget, so the last goes beyond.
SHARE = 50_000_000


class Postponed(Exception):
    """A long call's turn has not come: to be made again when `long_later` says so."""


class Unanswered(Postponed):
    """Too many calls of this caller wait for other fronts: to be made again when one has ended."""


class Rota:
    """Who comes in the next turn, each once."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`clock`: in ns."""
        self._clock = clock
        self._ends = 0  # of the share; 0: nobody has begun on it
        self._waiting: dict[Callable[[], None], None] = {}
        self._long: dict[Callable[[], None], None] = {}
        self._took_long = False

    @property
    def waiting(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting or self._long)

    def has_room(self) -> bool:
        """Whether somebody may still begin in this turn."""
        now = self._clock()
        if not self._ends:
            self._ends = now + SHARE
        return now <= self._ends

    def later(self, go_on: Callable[[], None]) -> None:
        """To be called in the next turn, or in the one after that."""
        self._waiting[go_on] = None

    def take_long(self) -> None:
        """Raise Postponed where a long call was made in this turn, or others wait to make one."""
        if self._took_long or self._long:
            raise Postponed
        self._took_long = True

    def long_later(self, go_on: Callable[[], None]) -> None:
        """To be called when it is its turn to make a long call."""
        self._long[go_on] = None

    def turn(self) -> None:
        """Once each time before the loop waits: those who were left out, as far as a share goes."""
        self._ends = 0
        for go_on in list(self._waiting):
            if not self.has_room():
                break
            del self._waiting[go_on]
            go_on()
        self._ends = 0
        self._took_long = False
        if self._long:
            self._go_on_with_long()

    def _go_on_with_long(self) -> None:
        others = self._long
        self._long = {}
        go_on = next(iter(others))
        del others[go_on]
        go_on()
        self._long = others | self._long


class InTurn(Channel):
    """A caller's channel. It is read where there is room, else in its turn: what is not read takes no memory."""

    rota: Rota

    def _ready(self, handle: Any, events: int | None, error: int | None) -> None:
        if error is None and events is not None and events & READABLE and not self.rota.has_room():
            self.rota.later(self._read_late)
            events &= ~READABLE
        super()._ready(handle, events, error)

    def _read_late(self) -> None:
        if not self.closed and not self._paused:
            self._read()
