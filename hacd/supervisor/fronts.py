"""The fronts as the supervisor has them: one, or several on one public socket. No process and no clock.

Law: what is said of the daemon holds for every front that may still live. It is ready, alive, or through with a reload
when each of them is; one that was given up is waited for no more, as long as there are others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from hacd.ledger import Ledger
from hacd.log.relay import Relay
from hacd.supervisor.children import Child, State
from hacd.supervisor.sockets import INTERNAL
from hacd.supervisor.watch import Watch

#: takes a front and an event for it: whether it did
Send = Callable[["Front", dict[str, Any]], bool]


class Front(Child):
    """One of them: `index` from 1 on, `path` the socket that workers, and other fronts, dial."""

    def __init__(self, name: str, index: int, path: str, slots: int, send: Send) -> None:
        super().__init__(name, 0)
        self.index = index
        self.path = path
        self.ledger = Ledger(slots)
        self.watch = Watch()
        self.relay = Relay(lambda event: send(self, event))  # of the log
        self.figures: dict[str, int] = {}
        self.was_ready = False  # it, or one before it
        self.reloads = False  # it was asked to, and has not answered yet
        self.beaten = False  # since the last time that all had

    def gone(self) -> None:
        """It was reaped."""
        self.watch.end()
        self.figures = {}
        self.beaten = False
        if self.state in (State.FATAL, State.ENDED):
            self.reloads = False


class Fronts:
    """All of them."""

    def __init__(self, count: int, path: str, slots: int, send: Send) -> None:
        """`path`: of the public socket; with one front, the names are those of a daemon that has no others."""
        if count == 1:
            self._all = [Front("front", 1, path + INTERNAL, slots, send)]
        else:
            numbers = range(1, count + 1)
            self._all = [Front(f"front {each}", each, f"{path}.front{each}", slots, send) for each in numbers]

    def __iter__(self) -> Iterator[Front]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def _hoped_for(self) -> list[Front]:
        return [front for front in self._all if front.state not in (State.FATAL, State.ENDED)]

    def are_ready(self) -> bool:
        """Whether each has said once that all workers are there."""
        return bool(self._hoped_for) and all(front.was_ready for front in self._hoped_for)

    def reload(self) -> bool:
        """Whether one of them has not answered a reload yet."""
        return any(front.reloads for front in self._all)

    def have_ended(self) -> bool:
        """Whether none will come back."""
        return all(front.state is State.ENDED for front in self._all)

    def are_given_up(self) -> bool:
        """Whether not one can live."""
        return all(front.state is State.FATAL for front in self._all)

    def beat(self, front: Front) -> bool:
        """Its loop turns; whether each one's has by now, since this was last so."""
        front.watch.alive()
        front.beaten = True
        if not all(each.beaten for each in self._hoped_for):
            return False
        for each in self._all:
            each.beaten = False
        return True

    def figures(self) -> dict[str, int]:
        """What all of them have counted."""
        total: Counter[str] = Counter()
        for front in self._all:
            total.update(front.figures)
        return dict(total)

    def states(self) -> list[tuple[int, int, str, int]]:
        """Of each its number, its pid, its state and how often it was started again."""
        return [(front.index, front.pid, front.state.value, front.restarts) for front in self._all]

    def times(self) -> list[float]:
        """When one of them is to be looked at."""
        return [front.watch.due for front in self._all if front.watch.due is not None]
