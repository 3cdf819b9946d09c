"""An answer that a caller gets later, since other fronts are asked for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hacd.errors import Refused

#: takes a result, or why there is none
Then = Callable[[Any, Refused | None], None]


class Later:
    """One call's answer. It is given once; where the caller has gone by then, to nobody."""

    def __init__(self) -> None:
        self._given: tuple[Any, Refused | None] | None = None
        self._then: Then | None = None

    def give(self, result: Any, refusal: Refused | None = None) -> None:
        """This is it."""
        if self._given is None:
            self._given = result, refusal
            self._tell()

    def then(self, then: Then) -> None:
        """Call `then` with it, at once if it is there."""
        self._then = then
        self._tell()

    @property
    def given(self) -> bool:
        """Whether it is there."""
        return self._given is not None

    def caller_gone(self) -> None:
        """Nobody waits for it any more."""
        self._then = None

    def _tell(self) -> None:
        then, given = self._then, self._given
        if then is not None and given is not None:
            self._then = None
            then(*given)
