"""Which queries may have reached their origin: a byte for each slot of the hash, in memory that all processes share.

A worker notes there, just before a request leaves, that it does. What it noted outlives it: so a query that
may not be sent twice is sent again when its worker is lost and it had not left yet.

Law: in doubt it has reached it. The front clears a byte when a transaction takes the slot, and nobody else does.
"""

from __future__ import annotations

import mmap

#: of an id of the hash, the lowest bits are the slot
SLOT_BITS = 24
SLOT_MASK = (1 << SLOT_BITS) - 1


class Ledger:
    """Made by the supervisor, before it forks."""

    def __init__(self, slots: int) -> None:
        self._bytes = mmap.mmap(-1, slots)
        self._slots = slots

    def clear(self, id_: int) -> None:
        """The transaction of that id begins: it has reached nobody."""
        slot = id_ & SLOT_MASK
        if slot < self._slots:
            self._bytes[slot] = 0

    def note(self, id_: int) -> None:
        """Its request is about to leave."""
        slot = id_ & SLOT_MASK
        if slot < self._slots:
            self._bytes[slot] = 1

    def reached(self, id_: int) -> bool:
        """Whether it may have reached its origin; of a transaction without a slot nobody knows."""
        slot = id_ & SLOT_MASK
        return slot >= self._slots or bool(self._bytes[slot])
