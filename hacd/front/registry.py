"""Who takes the replies of unsuspended queries, by route. Plain code: no socket, no clock.

So a short-lived program can send queries, and a long-lived one handle their replies. Of the
connections that registered for a route, each takes a reply in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar


class Taker(Protocol):
    """What the registry has to know of a connection."""

    def may_take_from(self, sender: Any) -> bool:
        """Whether it may see the replies to that sender's queries."""


T = TypeVar("T", bound=Taker)


class Registry(Generic[T]):
    """The connections that registered, by route."""

    def __init__(self) -> None:
        self._takers: dict[str, deque[T]] = {}
        self._routes: dict[T, set[str]] = {}

    def routes(self, taker: T) -> set[str]:
        """The routes that a connection has registered for."""
        return self._routes.get(taker, set())

    def all(self) -> Iterator[tuple[T, set[str]]]:
        """Every connection that registered, and its routes."""
        yield from self._routes.items()

    def add(self, taker: T, routes: Iterable[str]) -> None:
        """From now on `taker` is one of those who take replies of these routes."""
        known = self._routes.setdefault(taker, set())
        for route in routes:
            if route not in known:
                known.add(route)
                self._takers.setdefault(route, deque()).append(taker)

    def remove(self, taker: T) -> None:
        """`taker` has gone."""
        for route in self._routes.pop(taker, ()):
            takers = self._takers[route]
            takers.remove(taker)
            if not takers:
                del self._takers[route]

    def has(self, route: str, sender: Any) -> bool:
        """Whether somebody may take a reply of that route to a query of that sender's. It is nobody's turn."""
        return any(taker.may_take_from(sender) for taker in self._takers.get(route, ()))

    def choose(self, route: str, sender: Any) -> T | None:
        """Whose turn it is to take a reply of that route to a query of that sender's; None if nobody may."""
        takers = self._takers.get(route)
        if takers is None:
            return None
        for _ in range(len(takers)):
            taker = takers[0]
            takers.rotate(-1)
            if taker.may_take_from(sender):
                return taker
        return None
