"""A worker as the front sees it: a channel that takes jobs and brings outcomes.

To a worker: `[id, url, timeout, hdr, body, shape, started, login, into]` is a job, `[id]` cancels one, `[0]` says
goodbye, and `[0, word, value]` is for the worker itself.
From a worker: `[id, code, outcome]`; where the body is in an arena `[id, code, begin, rest, size, number, place]`;
where it is in a file `[id, code, begin, rest, size]`, and its descriptor comes along; with id 0 it is a word of the
worker's own, `[0, word, value]`.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from hacd import log
from hacd.arena import COMMON, Block, mapped
from hacd.channel import Channel
from hacd.errors import ProtocolError
from hacd.flusher import Flusher
from hacd.front.borrowing import LentBlock
from hacd.front.statistics import Ends, Statistics
from hacd.front.transactions import Transaction
from hacd.loop import Loop, Timer
from hacd.outcome import Held
from hacd.rpc import LARGE, Decoder, pack, pack_apart
from hacd.shared import Shared
from hacd.words import FREED, LEFT, RETURNED

#: Jobs that a stuck worker has not read may gather up to here; then it is cut off as if it had died. Those with
#: large bodies wait elsewhere long before.
MAX_UNSENT = 1 << 30

#: seconds between two looks, where jobs were put off, at whether the worker has read
LATER = 0.01


#: bytes that no body has
ARENA_MAX = 1 << 48

#: of links: callers know a worker's arena by it
_KEYS = count(1)


class WorkerLink:
    """One worker's connection, and the transactions that it carries out."""

    def __init__(
        self,
        loop: Loop,
        flusher: Flusher,
        sock: socket.socket,
        max_frame: int,
        on_outcomes: Callable[[WorkerLink, list[Any]], None],
        statistics: Statistics,
        shm: bool,
    ) -> None:
        """`shm`: its outcomes may have bodies in shared memory."""
        self.number = 0
        self.leaving = False  # it finishes what it has, and ends
        self.pid = 0
        self.unanswered = 0  # heartbeats
        self.transactions: set[Transaction] = set()
        self.ends = Ends()
        self.key = next(_KEYS)
        self._loop = loop
        self._arena = memoryview(b"")
        self._waiting: deque[tuple[int, Transaction]] = deque()  # whose jobs were put off
        self._later: Timer | None = None
        self._flusher = flusher
        self._returned: list[int] = []  # bodies that the worker is to be told of: arena and place, one after the other
        self._on_outcomes = on_outcomes
        self._statistics = statistics
        self.channel = Channel(loop, flusher, sock, Decoder(max_frame, None), MAX_UNSENT, takes_descriptors=shm)
        self.channel.on_messages = self._messages
        self.channel.on_broken = self._broken

    @property
    def in_flight(self) -> int:
        """Transfers that it carries out."""
        return len(self.transactions)

    def carry_out(self, transaction: Transaction) -> None:
        """Hand over its job; the outcome comes by `on_outcomes`."""
        transaction.worker = self
        transaction.attempts += 1
        self.transactions.add(transaction)
        self.ends.requests += 1
        body = transaction.job[4]
        if body is None or len(body) < LARGE:
            self.channel.send(pack(transaction.job))
        elif self.channel.full:
            self._put_off(transaction)
        else:
            self.channel.send_large(pack_apart(transaction.job))

    def _put_off(self, transaction: Transaction) -> None:
        """Its job goes once the worker has read. Meanwhile its body is here once: in the hash."""
        self._waiting.append((transaction.id, transaction))
        if self._later is None:
            self._later = Timer(self._loop)
            self._later.start(lambda _timer: self._catch_up(), LATER, LATER)

    def _catch_up(self, at_once: bool = False) -> None:
        waiting = self._waiting
        while waiting and (at_once or not self.channel.full):
            id_, transaction = waiting.popleft()
            if transaction.id == id_ and transaction.live and transaction.worker is self:
                self.channel.send_large(pack_apart(transaction.job))
        if self._later is not None and not waiting:
            self._later.stop()
            self._later.close()
            self._later = None

    def cancel(self, transaction: Transaction) -> None:
        """The outcome of that job is of no use any more."""
        self.channel.send(pack((transaction.id,)))

    def tell(self, word: str, value: Any) -> None:
        """A word for the worker itself."""
        self.channel.send(pack((0, word, value)))

    def goodbye(self) -> None:
        """No job follows: what the worker has, it finishes, and then it ends."""
        self.leaving = True
        self._catch_up(at_once=True)
        self.channel.send(pack((0,)))

    def held(self, message: list[Any]) -> tuple[int, Any, Any]:
        """Id, code and outcome of a message whose body is in shared memory. Raises ProtocolError, ValueError."""
        if len(message) == 7:
            return self._in_arena(message)
        id_, code, begin, rest, size = message
        fd = self.channel.take_descriptor() if type(id_) is int and id_ else None
        if fd is None:
            raise ProtocolError("an outcome without its body")
        if os.fstat(fd).st_size != size:
            os.close(fd)
            raise ProtocolError("an outcome with another body")
        self._statistics.shm_used += size
        return id_, code, Held(begin, Shared(fd, size, self._freed), rest)

    def _in_arena(self, message: list[Any]) -> tuple[int, Any, Any]:
        id_, code, begin, rest, size, number, place = message
        if not (0 < size <= ARENA_MAX and place >= 0) or (number == COMMON and size > len(self._arena) - place):
            raise ProtocolError("an outcome whose body is nowhere")
        self._statistics.shm_used += size
        if number != COMMON:
            return id_, code, Held(begin, LentBlock(self, number, place, size), rest)
        view = self._arena[place : place + size]
        return id_, code, Held(begin, Block(view, number, place, partial(self.returned, size)), rest)

    def returned(self, size: int, number: int, place: int) -> None:
        """A body of that size is let go of, in the block that begins at `place` of that arena."""
        self._statistics.shm_used -= size
        if not self._returned:
            self._flusher.dirty.append(self)
        self._returned += (number, place)

    def flush(self) -> None:
        """Tell the worker what one wake-up has brought back."""
        returned, self._returned = self._returned, []
        self.tell(RETURNED, returned)

    def has_arena(self, size: int) -> None:
        """Its hello came with the descriptor of one. Raises ProtocolError."""
        fd = self.channel.take_descriptor()
        if fd is None:
            raise ProtocolError("a hello without its arena")
        try:
            self._arena = mapped(fd, size)
        except (OSError, ValueError) as error:
            log.warning("worker %d [%d]: no shared memory for bodies: %s", self.number, self.pid, error)
            self.tell(LEFT, COMMON)
        finally:
            os.close(fd)

    def _freed(self, size: int) -> None:
        self._statistics.shm_used -= size
        self.tell(FREED, size)

    def _messages(self, messages: list[Any]) -> None:
        try:
            self._on_outcomes(self, messages)
        except ProtocolError as error:
            self._broken(error)

    def _broken(self, error: ProtocolError) -> None:
        log.warning("worker %d [%d] sent %s; cut off", self.number, self.pid, error)
        self.channel.break_off(str(error))

    def as_map(self) -> dict[str, Any]:
        """Its figures, for `stats`."""
        return {"worker": self.number, "pid": self.pid, "in_flight": self.in_flight, **self.ends.as_map()}
