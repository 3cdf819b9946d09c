"""The hash of suspended transactions.

Law: a transaction is resumed exactly once. `release` takes it out of the hash; whatever comes
later for that id, or for an older holder of its slot, finds nothing. No socket and no clock here.

`hash_size` slots are made at start, each with a record that serves one transaction after the
other. An id is generation and slot, so finding is one index and one comparison. When no slot
is free, a transaction gets a record of its own, chained to the slot number that none has.
Where there are several fronts, the generation of front K is K, and grows by their number: no two have the same id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hacd.ledger import SLOT_BITS, SLOT_MASK

#: the slot number of ids whose records are not in the slots
CHAINED = SLOT_MASK

#: that of a record which has had no deadline yet
_NO_BUCKET: set[Any] = set()


class Transaction:
    """One suspended transaction. Between two transactions a slot's record keeps only its `id`."""

    __slots__ = (
        "attempts",
        "bucket",
        "counted",
        "held",
        "id",
        "job",
        "live",
        "msgid",
        "origin",
        "route",
        "session",
        "started",
        "timeout",
        "url",
        "worker",
        "xdata",
    )

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.live = False
        self.session: Any = None  # the caller's connection
        self.worker: Any = None  # who carries it out; None: waits for one
        self.job: tuple[Any, ...] = ()  # as a worker gets it; kept for the case that one is lost
        self.origin = ""
        self.counted = False  # by the gate of its origin
        self.attempts = 0  # workers that it was given to
        self.xdata = b""  # packed
        self.held = 0  # bytes of the account
        self.url = self.route = ""
        self.msgid: int | None = None  # of the caller's request; None: it is not suspended
        self.started = self.timeout = 0  # ns of the monotonic clock; ms
        self.bucket: set[Any] = _NO_BUCKET  # of `Deadlines`


class Transactions:
    """All transactions in flight, by id."""

    def __init__(self, hash_size: int, front: int = 1, fronts: int = 1) -> None:
        """`hash_size`: a power of two, as `settings.slots` gives it; `front` of `fronts`: whose ids these are."""
        self._slots = [Transaction(front << SLOT_BITS | slot) for slot in range(hash_size)]
        # Taken from the end: the slot that was used last is the one that is warm.
        self._free = self._slots[::-1]
        self._chained: dict[int, Transaction] = {}
        self._generation = front - fronts
        self._fronts = fronts
        self._step = fronts << SLOT_BITS
        self._size = hash_size
        self.live = 0

    def __len__(self) -> int:
        return self.live

    def __iter__(self) -> Iterator[Transaction]:
        yield from [transaction for transaction in self._slots if transaction.live]
        yield from list(self._chained.values())

    def suspend(self) -> Transaction:
        """A record for a new transaction, under an id that no other has had."""
        if self._free:
            transaction = self._free.pop()
        else:
            self._generation += self._fronts
            transaction = Transaction(self._generation << SLOT_BITS | CHAINED)
            self._chained[transaction.id] = transaction
        transaction.live = True
        self.live += 1
        return transaction

    def find(self, id_: int) -> Transaction | None:
        """The transaction of that id, if it is still in flight."""
        slot = id_ & SLOT_MASK
        if slot < self._size:
            transaction = self._slots[slot]
            return transaction if transaction.id == id_ and transaction.live else None
        return self._chained.get(id_)

    def release(self, transaction: Transaction) -> None:
        """The transaction has been resumed: from here on, nothing finds its id."""
        transaction.live = False
        self.live -= 1
        slot = transaction.id & SLOT_MASK
        if slot == CHAINED:
            del self._chained[transaction.id]
            return
        # Let go of what the record would keep alive until its next transaction.
        transaction.session = transaction.worker = None
        transaction.job = ()
        transaction.attempts = 0
        transaction.xdata = b""
        transaction.url = ""
        transaction.id += self._step
        self._free.append(transaction)
