"""Values out of a target's bytes: each takes some from the front.

When they are all taken, what is drawn is 0 or empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """The bytes that are left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        """Of one byte: below 256, and below `below`."""
        byte = self.take(1)
        return byte[0] % below if byte else 0

    def take(self, size: int) -> bytes:
        """So many bytes, or what is left."""
        begin, self._at = self._at, min(self._at + size, len(self._data))
        return self._data[begin : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def of(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.number(len(choices))]

    def text(self) -> str:
        """Text as the wire brings it: a byte that is no UTF-8 is a lone surrogate."""
        return self.take(self.number(256)).decode("utf-8", "surrogateescape")
