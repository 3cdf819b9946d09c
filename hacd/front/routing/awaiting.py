"""What an `async def` route awaits, and what drives it. No loop: each step runs in what brought its result.

Law: a step of a coroutine is run by `Task.step` alone, and never twice at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

FOREIGN = "only tx.query(…), tx.gather(…) and coroutines that await these can be awaited here"
TWICE = "this is awaited already, elsewhere"

#: runs a step of a route's code, and raises nothing
Guard = Callable[[Callable[[], None]], None]


class Pending:
    """A result to come, which one coroutine can await. `on_taken` is called as the awaiting code gets it."""

    __slots__ = ("_on_done", "awaited", "done", "error", "on_taken", "result")

    def __init__(self, on_taken: Callable[[Any], None] | None = None) -> None:
        self.done = False
        self.awaited = False  # somebody waits for it, or did
        self.result: Any = None
        self.error: BaseException | None = None
        self.on_taken = on_taken
        self._on_done: Callable[[Pending], None] | None = None

    def __await__(self) -> Generator[Pending, None, Any]:
        if not self.done:
            yield self
        if self.error is not None:
            error, self = self.error, None  # type: ignore[assignment]  # the traceback holds what is here, and so a cycle
            try:
                raise error
            finally:
                del error
        if self.on_taken is not None:
            self.on_taken(self.result)
        return self.result

    def then(self, on_done: Callable[[Pending], None]) -> None:
        """Call `on_done` with it once it is done. Raises RuntimeError if somebody else waits already, or did."""
        if self.awaited:
            raise RuntimeError(TWICE)
        self.awaited = True
        if self.done:
            on_done(self)
        else:
            self._on_done = on_done

    def settle(self, result: Any = None, error: BaseException | None = None) -> None:
        """It is done."""
        self.result, self.error, self.done = result, error, True
        on_done, self._on_done = self._on_done, None  # who waits is held no longer, nor holds this through it
        if on_done is not None:
            on_done(self)


class Task:
    """A coroutine under way. `ended` is settled with what it returns or raises."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], guard: Guard) -> None:
        self.coroutine = coroutine
        self.ended = Pending()
        self._guard = guard
        self._closed = False

    def step(self, _awaited: Pending | None = None) -> None:
        """Go on until it awaits, or ends. Does nothing once it was closed."""
        if not self._closed:
            self._guard(self._step)

    def close(self) -> None:
        """It goes no further. Raises what its last `finally` does."""
        self._closed = True
        self.coroutine.close()

    def _step(self) -> None:
        try:
            awaited = self.coroutine.send(None)
            while wrong := _wait(awaited, self.step):
                awaited = self.coroutine.throw(RuntimeError(wrong))
        except StopIteration as end:
            self.ended.settle(end.value)
        except BaseException as error:  # noqa: BLE001
            self.ended.settle(error=error)


def _wait(awaited: Any, step: Callable[[Pending], None]) -> str:
    """Have `step` called once it is done; what is wrong with it, if it cannot be awaited."""
    if not isinstance(awaited, Pending):
        return FOREIGN
    if awaited.awaited:
        return TWICE
    awaited.then(step)
    return ""


def gather(pendings: list[Pending]) -> Pending:
    """Done when all are, with their results in order, or with the first error among them."""
    together = Pending()
    left = len(pendings)

    def one_is_done(_pending: Pending) -> None:
        nonlocal left
        left -= 1
        if not left:
            errors = (pending.error for pending in pendings if pending.error is not None)
            together.settle([pending.result for pending in pendings], next(errors, None))

    for pending in pendings:
        pending.then(one_is_done)
    if not pendings:
        together.settle([])
    return together
