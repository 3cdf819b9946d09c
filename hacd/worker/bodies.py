"""Bodies on their way in: in this process's own memory, or in shared memory from `shm_threshold` on.

Law: `Memory` counts each byte of shared memory from before it is written until the front says
that it has let go of it. Past this worker's share of `shm_size` a body goes on in own memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from hacd import log, shared
from hacd.settings import Settings
from hacd.shared import Shared
from hacd.worker.turns import BODY_SHARE

#: bodies in shared memory of all workers together: each costs a descriptor, in two processes for a while
BODIES = 512

#: Bytes of a body after which it is asked how long it is to be; and of one in shared memory, that are written at once.
#: A heap of more would be moved by the kernel, page by page, as it grows.
LOOK, STAGE = 16_384, 65_536

#: decimal places of a length that is none of this world's
DIGITS = 19

#: Bytes of a body that take as long as a call that brings them: an origin may send chunks of one byte.
CALL = 64


class Memory:
    """This worker's share of the shared memory, and how much of it is taken."""

    def __init__(self, settings: Settings) -> None:
        self.used = self.bodies = 0
        self.fallbacks = 0  # bodies that found no room
        self._next_complaint = 0.0
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """These settings hold from now on. What is taken stays taken."""
        workers = settings.http_async_client.workers
        self._share = settings.hacd.shm_size // workers
        self._bodies = BODIES // workers

    def take(self, size: int, new: bool) -> bool:
        """Whether there is room for `size` bytes more, of a `new` body or of one that has begun."""
        if self.used + size > self._share or (new and self.bodies >= self._bodies):
            return False
        self.used += size
        self.bodies += new
        return True

    def give_back(self, size: int) -> None:
        """A body of so many bytes is gone, from here and from the front."""
        self.used -= size
        self.bodies -= 1

    def failed(self, error: OSError) -> None:
        """The system gave none. Log it, once a second: where a descriptor is lacking, every body lacks one."""
        now = time.monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + 1
            log.warning("no shared memory for a body: %s", error.strerror)

    def reset(self) -> None:
        """The front is gone, and with it what it held."""
        self.used = self.bodies = 0


class Body:
    """The body of one transfer after the other. `add` is curl's write callback."""

    __slots__ = (
        *("_fd", "_first", "_head", "_kept", "_mark", "_max_body", "_memory", "_pause", "_room", "_taken"),
        *("_threshold", "_written", "heap", "over"),
    )

    def __init__(
        self, memory: Memory, max_body: int, threshold: int, head: list[bytes], pause: Callable[[], None]
    ) -> None:
        """`threshold`: of how many bytes on it shall be in shared memory; more than `max_body`: never.

        `head`: where the transfer's header lines are. `pause()` is called when it had its share of a turn.
        """
        self._memory = memory
        self._max_body = max_body
        self._pause = pause
        self.heap = bytearray()  # not a list: an origin may send two bytes at a time
        self.over = False  # longer than `max_body`
        self._threshold = threshold
        self._head = head
        self._kept = min(LOOK - 1, threshold - 1, max_body)  # bytes that `heap` holds until the next look
        self._fd = -1
        self._written = 0  # bytes in shared memory; more may wait in `heap`
        self._taken = 0  # bytes that `_memory` counts
        self._make_room(0)
        self._first = (self._kept, self._room, self._mark)

    def add(self, data: bytes) -> int | None:
        """Take what came. 0 has curl end the transfer with a write error: not all was taken."""
        heap = self.heap
        heap += data
        self._room -= CALL
        if len(heap) <= self._room:
            return None
        return self._look()

    def _make_room(self, work: int) -> None:
        """Look again when `heap` is full or the share is used up, of which `work` is gone."""
        size = len(self.heap)
        self._room = min(self._kept, size + BODY_SHARE - work)
        self._mark = size - work - self._room

    def _look(self) -> int | None:
        work = len(self.heap) - self._room - self._mark
        if len(self.heap) > self._kept and not self._spill():
            return 0
        if work >= BODY_SHARE:
            work = 0
            self._pause()
        self._make_room(work)
        return None

    def _spill(self) -> bool:
        """More came than `heap` is to hold; False if it is too much."""
        size = self._written + len(self.heap)
        if size > self._max_body:
            self.over = True
            return False
        if self._fd < 0 and max(size, min(announced(self._head), self._max_body)) < self._threshold:
            self._kept = min(self._threshold - 1, self._max_body)
        elif self._write():
            self._kept = min(STAGE - 1, self._max_body - size)
        else:
            self._fall_back()
        return True

    def _write(self) -> bool:
        """Move what is in `heap` to shared memory; False if it cannot be."""
        size = len(self.heap)
        if not self._memory.take(size, self._fd < 0):
            return False
        self._taken += size
        try:
            if self._fd < 0:
                self._fd = shared.create()
            if os.write(self._fd, self.heap) < size:
                return False
        except OSError as error:
            self._memory.failed(error)
            return False
        self._written += size
        self.heap.clear()
        return True

    def _fall_back(self) -> None:
        """Go on in own memory, with all that has come."""
        if self._written:
            self.heap[:0] = os.pread(self._fd, self._written, 0)
        self._let_go()
        self._kept = self._max_body
        self._memory.fallbacks += 1

    def finish(self) -> Shared | None:
        """The body if it is in shared memory, sealed, and from here on the caller's; else None, and it is in `heap`."""
        if self._fd < 0:
            return None
        if (self.heap and not self._write()) or not self._seal():
            self._fall_back()
            return None
        body = Shared(self._fd, self._written)
        self._fd, self._written, self._taken = -1, 0, 0  # it stays counted until the front gives it back
        return body

    def _seal(self) -> bool:
        try:
            shared.seal(self._fd)
        except OSError as error:
            self._memory.failed(error)
            return False
        return True

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        if self._taken:
            self._memory.give_back(self._taken)
        self._fd, self._written, self._taken = -1, 0, 0

    def drop(self) -> None:
        """Forget the transfer; be ready for the next."""
        if self._fd >= 0 or self._taken:
            self._let_go()
        self.heap = bytearray()
        self.over = False
        self._kept, self._room, self._mark = self._first


def announced(head: list[bytes]) -> int:
    """The Content-Length in the last of these header blocks, which may be a lie; 0 where there is none."""
    for line in reversed(head):
        if line[:15].lower() == b"content-length:":
            length = line[15:].strip()
            return int(length) if length.isdigit() and len(length) < DIGITS else 0
        if line.startswith(b"HTTP/"):
            break
    return 0
