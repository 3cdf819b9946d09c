"""A child's life by name. No process and no clock here: the time is passed in, in seconds.

    STARTING --ready--> RUNNING --died--> BACKOFF --due--> STARTING
        |                  |
        +------died--------+--stop--> STOPPING --died--> ENDED <--stop-- BACKOFF

A child that dies soon after its start is restarted later each time, up to BACKOFF_MAX; one
that has run for STEADY seconds starts again with no delay but the first.
"""

from __future__ import annotations

from enum import Enum

BACKOFF_FIRST = 0.05
BACKOFF_MAX = 5.0
STEADY = 10.0


class State(Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    ENDED = "ended"


_ALLOWED = {
    State.STARTING: (State.RUNNING, State.BACKOFF, State.STOPPING),
    State.RUNNING: (State.BACKOFF, State.STOPPING),
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
        elif self.state is State.BACKOFF:
            self.transition(State.ENDED)

    def died(self, now: float) -> None:
        """It has been reaped."""
        self.pid = 0
        if self.state is State.STOPPING:
            self.transition(State.ENDED)
            return
        if now - self.started >= STEADY:
            self._delay = BACKOFF_FIRST
        self.transition(State.BACKOFF)
        self.put_off(now)

    def put_off(self, now: float) -> None:
        """It is in BACKOFF, and is not to be started before some time has passed: each time more."""
        self.due = now + self._delay
        self._delay = min(2 * self._delay, BACKOFF_MAX)

    def is_due(self, now: float) -> bool:
        """It waits to be started, and has waited long enough."""
        return self.state is State.BACKOFF and self.due <= now
