"""Bodies on their way in: in this process's own memory, and from some length on in shared memory.

Who takes descriptors gets a body of `shm_threshold` or more in a file of its own; who has an arena, in that. For all
others, and what is shorter, there is the common arena, from which the front sends it. `memory_manager = sys` has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hacd.arena import COMMON, FILE, Block
from hacd.shared import Shared
from hacd.worker.memory import Memory
from hacd.worker.stores import File, OpenBlock
from hacd.worker.turns import BODY_SHARE

#: Bytes of a body after which it is asked how long it is to be; and of one in a file, that are written at once.
#: A heap of more would be moved by the kernel, page by page, as it grows.
LOOK, STAGE = 16_384, 65_536

#: Bytes of a block that a body gets because it says that it will be as long; beyond, it gets four times what came. One
#: that says nothing gets twice what came.
EAGER = 1 << 20

#: What a header block says of its body's length. One with more decimal places is none of this world's.
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r?\n", re.I)

#: Bytes of a body that take as long as a call that brings them: an origin may send chunks of one byte.
CALL = 64


class Body:
    """The body of one transfer after the other. `add` is curl's write callback."""

    __slots__ = (
        *("_at", "_block", "_file", "_first", "_head", "_kept", "_least", "_mark", "_max_body", "_memory", "_pause"),
        *("_room", "_threshold", "_view", "heap", "into", "over"),
    )

    def __init__(
        self, memory: Memory, max_body: int, lengths: tuple[int, int], head: list[bytes], pause: Callable[[], None]
    ) -> None:
        """`lengths`: of how many bytes on it shall be in the arena, and in a file; more than `max_body`: never.

        `head`: where the transfer's header lines are. `pause()` is called when it had its share of a turn.
        """
        self._memory = memory
        self._max_body = max_body
        self._pause = pause
        self.heap = bytearray()  # not a list: an origin may send two bytes at a time
        self.over = False  # longer than `max_body`
        self.into = COMMON  # how its caller takes it
        self._least, self._threshold = lengths
        self._head = head
        self._kept = min(LOOK - 1, *(length - 1 for length in lengths), max_body)  # in `heap`, until the next look
        self._file: File | None = None
        self._block: OpenBlock | None = None
        self._view: memoryview | None = None  # of the arena, while it has a block there
        self._at = 0  # where in it the next bytes go
        self._make_room(0, self._kept, 0)
        self._first = (self._kept, self._room, self._mark)

    def add(self, data: bytes) -> int | None:
        """Take what came. 0 has curl end the transfer with a write error: not all was taken."""
        if self._view is not None:
            at = self._at
            end = at + len(data)
            self._room -= CALL
            if end <= self._room:
                self._view[at:end] = data
                self._at = end
                return None
            return self._stop(data)
        self._room -= CALL
        heap = self.heap
        if len(heap) + len(data) <= self._room:
            heap += data
            return None
        return self._look(data)

    def _stop(self, data: bytes) -> int | None:
        """Its block is full, or its share of a turn used up."""
        assert self._block is not None
        block, end = self._block, self._at + len(data)
        work = end - self._room - self._mark
        if end > block.end:
            self._leave(block, work - len(data))
            return self.add(data)
        block.view[self._at : end] = data
        self._at = end
        if work >= BODY_SHARE:
            work = 0
            self._pause()
        self._make_room(self._at, block.end, work)
        return None

    def _leave(self, block: OpenBlock, work: int) -> None:
        """Its block is too short: another place is to be found for it, by way of `heap`."""
        self.heap += block.view[block.begin : self._at]
        block.let_go()
        self._view = self._block = None
        self._kept = 0
        self._make_room(len(self.heap), 0, work)

    def _make_room(self, at: int, end: int, work: int) -> None:
        """Bytes go to `at` next: look again at `end`, or when the share is used up, of which `work` is gone."""
        self._room = min(end, at + BODY_SHARE - work)
        self._mark = at - work - self._room

    def _look(self, data: bytes) -> int | None:
        """More came than `heap` is to hold without a look at it, or its share of a turn is used up."""
        size = len(self.heap) + len(data)
        work = size - self._room - self._mark
        if size <= self._kept:
            self.heap += data
        elif not self._spill(data, size):
            return 0
        if work >= BODY_SHARE:
            work = 0
            self._pause()
        if self._block is None:
            self._make_room(len(self.heap), self._kept, work)
        else:
            self._make_room(self._at, self._block.end, work)
        return None

    def _spill(self, data: bytes, size: int) -> bool:
        """`size` bytes, with what is in `heap`, are more than that is to hold; False if they are too much."""
        if size + (self._file.written if self._file is not None else 0) > self._max_body:
            self.over = True
        elif self._file is not None:
            self.heap += data
            self._write(self._file)
        else:
            self._place(data, max(size, min(announced(self._head), self._max_body)))
        return not self.over

    def _place(self, data: bytes, expected: int) -> None:
        """Find the place for a body of so many bytes, as far as it is known."""
        as_file = self.into == FILE
        if expected >= self._least and not (as_file and expected >= self._threshold):
            self._reserve(data, expected)
            return
        self.heap += data
        if as_file and expected >= self._threshold:
            self._write(File(self._memory))
        else:
            self._kept = min(self._least - 1, self._threshold - 1, self._max_body)

    def _write(self, file: File) -> None:
        self._file = file
        if file.write(self.heap):
            self.heap.clear()
            self._kept = min(STAGE - 1, self._max_body - file.written)
        else:
            self._fall_back(file)

    def _reserve(self, data: bytes, expected: int) -> None:
        """Have a block: as long as the body shall be, but no more than an origin gets for the asking."""
        heap = self.heap
        size = len(heap) + len(data)
        as_file = self.into == FILE
        most = min(self._max_body, self._threshold - 1) if as_file else self._max_body
        wanted = min(max(expected, 2 * size), max(EAGER, 4 * size), most)
        found = self._memory.block(wanted, COMMON if as_file else self.into)
        if found is None:
            heap += data
            self._fall_back(None)
            return
        self._block = block = OpenBlock(self._memory, *found, most)
        self._view = view = block.view
        begin = block.begin
        self._at = end = begin + size
        if heap:
            view[begin : end - len(data)] = heap
            heap.clear()
        view[end - len(data) : end] = data

    def _fall_back(self, file: File | None) -> None:
        """Go on in own memory, with all that has come."""
        self._file = None
        if file is not None:
            self.heap[:0] = file.read()
            file.let_go()
        self._kept = self._max_body
        self._memory.fallbacks += 1

    def finish(self) -> Shared | Block | None:
        """The body if it is in shared memory, and from here on the front's; else None, and it is in `heap`."""
        if self._block is not None:
            block, self._block, self._view = self._block, None, None
            return block.finish(self._at)
        if self._file is not None and self.heap:
            self._write(self._file)
        file, self._file = self._file, None
        if file is None:
            return None
        body = file.finish()
        if body is None:
            self._fall_back(file)
        return body

    def drop(self) -> None:
        """Forget the transfer; be ready for the next."""
        if self._block is not None:
            self._block.let_go()
            self._block = self._view = None
        if self._file is not None:
            self._file.let_go()
            self._file = None
        self.heap = bytearray()
        self.over = False
        self._kept, self._room, self._mark = self._first


def announced(head: list[bytes]) -> int:
    """The Content-Length in the last of these header blocks, which may be a lie; 0 where there is none."""
    block = b"".join(head)
    found = _LENGTH.search(block, block.rfind(b"\nHTTP/") + 1)
    return int(found[1]) if found else 0
