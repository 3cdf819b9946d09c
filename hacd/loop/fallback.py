"""The same loop and handles on uvloop, for a machine where pyuv cannot be built.

Signatures are pyuv's. uvloop has no prepare handle: here, whatever wakes the loop asks for
the prepare callbacks with `call_soon`, which runs them before the loop waits again.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import uvloop

READABLE, WRITABLE = 1, 2

Callback = Callable[..., None]


class Loop:
    """uvloop's loop with pyuv's manners. What a callback raises stops it, and `run` raises that."""

    def __init__(self) -> None:
        self.uvloop = uvloop.new_event_loop()
        self.uvloop.set_exception_handler(self._keep)
        self._raised: BaseException | None = None
        self._prepares: list[Prepare] = []
        self._asked = False

    def _keep(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._raised is None:
            self._raised = context.get("exception") or RuntimeError(context.get("message"))
        self.uvloop.stop()

    def run(self) -> None:
        """Run until `stop`. Raises what a callback raised."""
        self.ask()
        self.uvloop.run_forever()
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def stop(self) -> None:
        """End `run` after this turn."""
        self.uvloop.stop()

    def close(self) -> None:
        """Give the loop's descriptors back; no handle of it may be used after."""
        self.uvloop.close()

    def ask(self) -> None:
        """Something happened: the prepare callbacks have to run before the loop waits."""
        if not self._asked:
            self._asked = True
            self.uvloop.call_soon(self._prepare)

    def _prepare(self) -> None:
        self._asked = False
        for prepare in self._prepares:
            prepare.fire()

    def enrol(self, prepare: Prepare) -> None:
        """`prepare` has been started: it runs from now on."""
        if prepare not in self._prepares:
            self._prepares.append(prepare)
        self.ask()

    def drop(self, prepare: Prepare) -> None:
        """`prepare` has been stopped or closed."""
        if prepare in self._prepares:
            self._prepares.remove(prepare)


class _Handle:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.closed = False
        self._callback: Callback | None = None

    def stop(self) -> None:
        self._callback = None

    def close(self) -> None:
        self.stop()
        self.closed = True


class Poll(_Handle):
    """Calls `callback(handle, events, error)` while the descriptor is ready (level-triggered)."""

    def __init__(self, loop: Loop, fd: int) -> None:
        super().__init__(loop)
        self._fd = fd
        self._events = 0

    def start(self, events: int, callback: Callback) -> None:
        """Watch for `events` (READABLE | WRITABLE), in place of what was watched for before."""
        uvloop_ = self.loop.uvloop
        self._callback = callback
        if events & READABLE:
            uvloop_.add_reader(self._fd, self._ready, READABLE)
        elif self._events & READABLE:
            uvloop_.remove_reader(self._fd)
        if events & WRITABLE:
            uvloop_.add_writer(self._fd, self._ready, WRITABLE)
        elif self._events & WRITABLE:
            uvloop_.remove_writer(self._fd)
        self._events = events

    def stop(self) -> None:
        """Watch for nothing."""
        if self._events & READABLE:
            self.loop.uvloop.remove_reader(self._fd)
        if self._events & WRITABLE:
            self.loop.uvloop.remove_writer(self._fd)
        self._events = 0
        super().stop()

    def _ready(self, events: int) -> None:
        # One turn can find a descriptor both readable and writable, and the first
        # callback may have stopped the handle.
        if self._callback is not None and self._events & events:
            self._callback(self, events, None)
            self.loop.ask()


class Timer(_Handle):
    """Calls `callback(handle)` once after `timeout` seconds, then every `repeat` seconds (0: never)."""

    _handle: asyncio.TimerHandle | None = None
    _repeat = 0.0

    def start(self, callback: Callback, timeout: float, repeat: float) -> None:
        """Start, or start anew. Raises ValueError for a negative time, as pyuv does."""
        if timeout < 0 or repeat < 0:
            raise ValueError("a positive value or zero is required")
        self.stop()
        self._callback, self._repeat = callback, repeat
        self._handle = self.loop.uvloop.call_later(timeout, self._due)

    def stop(self) -> None:
        """Do not fire."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        super().stop()

    def _due(self) -> None:
        callback = self._callback
        self._handle = None
        if callback is None:
            return
        if self._repeat:
            self._handle = self.loop.uvloop.call_later(self._repeat, self._due)
        callback(self)
        self.loop.ask()


class Signal(_Handle):
    """Calls `callback(handle, signum)` for each signal of that number."""

    _signum = 0

    def start(self, callback: Callback, signum: int) -> None:
        """Take the signal, from now on: uvloop's own handlers lose what comes before `run`."""
        self._callback, self._signum = callback, signum
        signal.signal(signum, lambda *_: self.loop.uvloop.call_soon_threadsafe(self._raised))

    def stop(self) -> None:
        """Leave the signal to its default again."""
        if self._callback is not None:
            signal.signal(self._signum, signal.SIG_DFL)
        super().stop()

    def _raised(self) -> None:
        if self._callback is not None:
            self._callback(self, self._signum)
            self.loop.ask()


class Prepare(_Handle):
    """Calls `callback(handle)` each time before the loop waits."""

    def start(self, callback: Callback) -> None:
        """Run from now on."""
        self._callback = callback
        self.loop.enrol(self)

    def stop(self) -> None:
        """Run no more."""
        self.loop.drop(self)
        super().stop()

    def fire(self) -> None:
        """Run the callback, if there still is one."""
        if self._callback is not None:
            self._callback(self)
