"""A child's life by name. No process and no clock here: the time is passed in, in seconds.

    STARTING --ready--> RUNNING --died--> BACKOFF --due--> STARTING
        |                  |
        +------died--------+--stop--> STOPPING --died--> ENDED <--stop-- BACKOFF, FATAL
        |                  |
        +--died once more--+--> FATAL --revive--> BACKOFF

A child that dies soon after its start is restarted later each time, up to BACKOFF_MAX; one that
has run for STEADY seconds starts again with no delay but the first. One that died RETRIES times in a row
within QUICK seconds cannot live, and is given up: a reload revives it.
"""

from __future__ import annotations

import os
import signal
from enum import Enum

BACKOFF_FIRST = 0.05
BACKOFF_MAX = 5.0
STEADY = 10.0
QUICK = 2.0
RETRIES = 12


class State(Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    FATAL = "fatal"
    STOPPING = "stopping"
    ENDED = "ended"


_ALLOWED = {
    State.STARTING: (State.RUNNING, State.BACKOFF, State.FATAL, State.STOPPING),
    State.RUNNING: (State.BACKOFF, State.FATAL, State.STOPPING),
    State.FATAL: (State.BACKOFF, State.ENDED),
    State.BACKOFF: (State.STARTING, State.ENDED),
    State.STOPPING: (State.ENDED,),
    State.ENDED: (),
}


class Child:
    """One child: `name` is what it is to people, `number` 0 for the front."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.state = State.BACKOFF
        self.pid = 0
        self.due = 0.0  # when a child in BACKOFF starts
        self.started = 0.0
        self.restarts = 0
        self._quick = 0  # deaths in a row that came soon after the start
        self._delay = BACKOFF_FIRST

    def transition(self, state: State) -> None:
        """Go on to `state`. Raises ValueError where the picture above has no such arrow."""
        if state not in _ALLOWED[self.state]:
            raise ValueError(f"{self.name}: {self.state.value} -> {state.value}")
        self.state = state

    def spawned(self, pid: int, now: float) -> None:
        """It has been forked."""
        self.transition(State.STARTING)
        self.pid = pid
        self.started = now

    def ready(self) -> None:
        """It said that it works."""
        if self.state is State.STARTING:
            self.transition(State.RUNNING)

    def stopping(self) -> None:
        """It has been told to end; one that is not there has ended."""
        if self.state in (State.STARTING, State.RUNNING):
            self.transition(State.STOPPING)
        elif self.state in (State.BACKOFF, State.FATAL):
            self.transition(State.ENDED)

    def died(self, now: float) -> None:
        """It has been reaped."""
        self.pid = 0
        if self.state is State.STOPPING:
            self.transition(State.ENDED)
            return
        lived = now - self.started
        self._quick = self._quick + 1 if lived < QUICK else 0
        if lived >= STEADY:
            self._delay = BACKOFF_FIRST
        self.restarts += 1
        if self._quick >= RETRIES:
            self.transition(State.FATAL)
            return
        self.transition(State.BACKOFF)
        self.put_off(now)

    def revive(self, now: float) -> None:
        """What may have kept it from living has been mended: try again."""
        if self.state is State.FATAL:
            self._delay, self._quick = BACKOFF_FIRST, 0
            self.transition(State.BACKOFF)
            self.due = now

    def put_off(self, now: float) -> None:
        """It is in BACKOFF, and is not to be started before some time has passed: each time more."""
        self.due = now + self._delay
        self._delay = min(2 * self._delay, BACKOFF_MAX)

    def is_due(self, now: float) -> bool:
        """It waits to be started, and has waited long enough."""
        return self.state is State.BACKOFF and self.due <= now


def how(status: int) -> str:
    """How a process ended, for people."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"ended with exit code {os.WEXITSTATUS(status)}"
