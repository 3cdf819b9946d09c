"""One socket on the loop that carries messages: buffers, back-pressure, and the end.

Law: what a wake-up of the loop gathered for a peer leaves with one write. `send` only
gathers; the `Flusher`, which runs before the loop waits, writes. A peer that does not read
costs what is being written to it and `max_unsent` bytes behind that, and then its connection.
A body in shared memory is the channel's from `pass_on` or `splice` on: it is let go of when it
is sent, and as well when it never will be.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from hacd import shared
from hacd.account import Account, Entry
from hacd.arena import Block
from hacd.errors import ProtocolError
from hacd.flusher import Flusher
from hacd.loop import READABLE, WRITABLE, Loop, Poll, Timer
from hacd.pieces import Passed, Pieces
from hacd.rpc import CHUNK, Decoder
from hacd.shared import Shared

#: s that a peer gets to hang up, once it was told why; and until descriptors are passed again, of which too many were
LINGER, RETRY = 2.0, 0.05

#: Bytes of large messages that one peer has not read, from which on others of them had better wait elsewhere
FULL = 64 * 1024 * 1024

#: One buffer for all reads of a process: a read is decoded, which copies, before the next.
_INPUT = bytearray(CHUNK)
_VIEW = memoryview(_INPUT)

_IN_PIECES = memoryview(b"")  # what is being written, while it stands in `_pieces`


class Channel:
    """A connected stream socket that carries messages.

    `on_messages(messages)` is called once a read, with all that it completed. `on_broken(error)`
    is called when the peer's stream is no MessagePack; the messages before that came first.
    `on_closed(why)` is called once, however the end came, unless `close` was called here.
    Descriptors that come are dropped by the kernel unless `takes_descriptors`. `account` is told what is held.
    """

    def __init__(
        self,
        loop: Loop,
        flusher: Flusher,
        sock: socket.socket,
        decoder: Decoder,
        max_unsent: int,
        takes_descriptors: bool = False,
        account: Account | None = None,
    ) -> None:
        sock.setblocking(False)
        self.uid = -1  # of its peer, where it matters
        self._sock = sock
        self._descriptors: deque[int] = deque()  # that came, and whose message was not heard yet
        # With descriptors a read costs a µs more.
        take = partial(shared.receive, sock, descriptors=self._descriptors)
        self._receive: Callable[[bytearray], int] = take if takes_descriptors else sock.recv_into
        self._decoder = decoder
        self._flusher = flusher
        self._max_unsent = max_unsent
        self._entry = Entry(account)
        self._poll = Poll(loop, sock.fileno())
        self._loop = loop
        self._linger: Timer | None = None
        self._gathered: list[bytes | Shared | Block] = []
        self._unsent: memoryview | None = None
        self._backlog = 0  # bytes gathered behind `_unsent`
        self._large = 0  # bytes of large messages since all was last sent
        self._bodies = False  # among what is gathered, there are bodies in shared memory
        self._passing: list[Shared] = []  # gathered, too: their descriptors go, and not their bytes
        self._pieces = Pieces()  # what is being written, where bodies are in it
        self._passed = Passed(sock, max_unsent)
        self._retry: Timer | None = None
        self._held_back = False  # until `_retry`
        self.deaf = False  # hears no more, but may still have something to say
        self.closed = False
        self.cut = False  # closed because its peer did not read, or held too much
        self._paused = False
        self.on_messages: Callable[[list[Any]], None] = _ignore
        self.on_broken: Callable[[ProtocolError], None] = _ignore
        self.on_closed: Callable[[str], None] = _ignore

    def start(self) -> None:
        """Begin to read."""
        self._watch()

    def pause(self) -> None:
        """Read no more until `resume`; what was sent still leaves."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if not self.closed:
            self._watch()

    def _watch(self) -> None:
        writes = self._unsent is not None and not self._held_back
        events = (0 if self._paused else READABLE) | (WRITABLE if writes else 0)
        if events:
            self._poll.start(events, self._ready)
        else:
            self._poll.stop()

    @property
    def pending(self) -> bool:
        """Whether there is something that the peer has not taken yet."""
        return bool(self._gathered) or self._unsent is not None

    @property
    def backlog(self) -> int:
        """Bytes that wait behind what the peer has begun to read; 0 while it takes all."""
        return self._backlog

    def send(self, *parts: bytes) -> None:
        """Send `parts` as they stand, in order, with the next flush."""
        if self.closed:
            return
        if self._unsent is None:
            if not self._gathered:
                self._flusher.dirty.append(self)
        else:
            self._backlog += sum(map(len, parts))
            self._note()
            if self._backlog > self._max_unsent:
                self._flusher.dirty.append(self)
        self._gathered += parts

    def send_large(self, *parts: bytes) -> None:
        """As `send`, of a message that counts for `full`."""
        self._large += sum(map(len, parts))
        self.send(*parts)

    @property
    def full(self) -> bool:
        """Whether FULL bytes of large messages are unsent, or as much of any waits."""
        return self._large > FULL or self._backlog > FULL

    def may_pass(self, size: int) -> bool:
        """Whether one more descriptor may go to the peer, of a body of `size` bytes."""
        return not self.closed and self._passed.may_be_followed(size, self.pending)

    def pass_on(self, body: Shared, *parts: bytes) -> None:
        """Send `parts`, and no later the descriptor of `body`."""
        if self.closed:
            body.release()
            return
        self._passed.add(body.size)
        self._passing.append(body)
        self._bodies = True
        self._owe(body.size)
        self.send(*parts)

    def splice(self, before: bytes, body: Shared | Block, after: bytes) -> None:
        """Send `before`, all bytes of `body`, and `after`."""
        if self.closed:
            body.release()
            return
        self.send(before)
        self._bodies = True
        self._gathered.append(body)
        self._owe(body.size)
        self.send(after)

    def _owe(self, size: int) -> None:
        """A body of that many bytes waits, too."""
        if self._unsent is not None:
            self._backlog += size
            self._judge()

    def _judge(self) -> None:
        """Have the next flush end a connection on which too much waits."""
        if self._waiting > self._max_unsent:
            self._flusher.dirty.append(self)

    @property
    def _waiting(self) -> int:
        # Messages with descriptors are small, and one read brings many: bodies that one turn gathered count, too.
        return self._backlog + self._pieces.behind

    def take_descriptor(self) -> int | None:
        """The next of the descriptors that came; whoever takes it closes it."""
        return self._descriptors.popleft() if self._descriptors else None

    def flush(self) -> None:
        """Write what was gathered, as far as the peer takes it."""
        if self.closed or self._unsent is not None:
            if self._waiting > self._max_unsent:
                self.cut_off(f"does not read: {self._waiting} bytes wait for it, behind what it has begun to read")
            return
        if self._bodies:
            self._pieces.add(self._gathered)
            self._pieces.go_along(self._passing)
            self._gathered.clear()
            self._passing.clear()
            self._bodies = False
            self._write_pieces()
            return
        data = b"".join(self._gathered)  # type: ignore[arg-type]  # no body is among them
        self._gathered.clear()
        self._write(memoryview(data))

    def _write_pieces(self) -> None:
        pieces = self._pieces
        try:
            pieces.write(self._sock)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                self.break_off(error.strerror or "write failed")
                return
            self._hold_back()
        if not pieces:
            self._written()
            return
        if self._unsent is None:
            self._unsent = _IN_PIECES
            self._watch()
            self._judge()
        self._note()

    def _hold_back(self) -> None:
        """Too many descriptors are on their way, to whomever; the socket is writable all the same. Wait a little."""
        self._retry = self._retry or Timer(self._loop)
        self._held_back = True
        self._retry.start(self._write_again, RETRY, 0)
        self._watch()

    def _write_again(self, _timer: Any) -> None:
        self._held_back = False
        self._watch()

    def _write(self, data: memoryview) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.break_off(error.strerror or "write failed")
            return
        if sent == len(data):
            self._written()
        else:
            # An offset into what is there: cutting bytes off its front would copy the rest each time.
            begun, self._unsent = self._unsent is None, data[sent:]
            if begun:
                self._watch()
            self._note()

    def _written(self) -> None:
        if self._unsent is not None:
            self._unsent = None
            self._backlog = 0
            self._watch()
            self._note()
        if self._gathered:
            self._flusher.dirty.append(self)
            return
        self._large = 0
        if self.deaf:
            self._hang_up()

    def _ready(self, _handle: Any, events: int | None, error: int | None) -> None:
        if error is not None or events is None:
            self._read_rest()
            return
        if events & WRITABLE and self._unsent is not None:
            if self._pieces:
                self._write_pieces()
            else:
                self._write(self._unsent)
        if events & READABLE and not self.closed:
            self._read()

    def _read(self) -> None:
        try:
            size = self._receive(_INPUT)
        except BlockingIOError:
            return
        except OSError as error:
            self.break_off(error.strerror or "read failed")
            return
        if not size:
            self.break_off("closed by the peer")
            return
        if self.deaf:
            return
        messages: list[Any] = []
        try:
            self._decoder.feed(_VIEW[:size], messages)
        except ProtocolError as broken:
            if messages:
                self.on_messages(messages)
            if not self.deaf:
                self.on_broken(broken)
            return
        if messages:
            self.on_messages(messages)
        if self._decoder.held or self._entry.noted:
            self._note()
            self._entry.judge()

    def _note(self) -> None:
        """Tell the account what is held for the peer: half a message of his, and what he has not taken."""
        held = self._decoder.held
        if self._unsent is not None:
            held += len(self._unsent) + self._backlog + self._pieces.left
        self._entry.note(self, held)

    def cut_off(self, why: str) -> None:
        """Close at once, since too much is held for the peer."""
        self.cut = True
        self.break_off(why)

    def _read_rest(self) -> None:
        """The peer is gone, in a way that ended the poll; what it said before may still lie here."""
        while not self.deaf:
            before = self._decoder.fed
            self._read()
            if self._decoder.fed == before:
                break
        self.break_off("broken off by the peer")

    def break_off(self, why: str) -> None:
        """Close at once, and tell `on_closed`."""
        if not self.closed:
            on_closed = self.on_closed
            self.close()
            on_closed(why)

    def close_when_sent(self) -> None:
        """Hear no more, send what was gathered, and wait a little for the peer to hang up.

        Closing at once would reset the connection under a peer that still writes, and it would
        never read what was wrong. `on_closed` is called at the end.
        """
        self.deaf = True
        self._paused = False
        self._watch()
        self._linger = Timer(self._loop)
        self._linger.start(lambda _timer: self.break_off("did not hang up"), LINGER, 0)
        if self._unsent is None and not self._gathered:
            self._hang_up()

    def _hang_up(self) -> None:
        """All is said: the peer reads the end of the stream."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.break_off(error.strerror or "gone")

    def close(self) -> None:
        """Close at once; what was not sent is dropped."""
        if self.closed:
            return
        self.closed = self.deaf = True
        self._let_go()
        self._gathered.clear()
        self._unsent = None
        self._backlog = self._large = 0
        self._poll.stop()  # which lets go of its callback, as closing it does not
        self._poll.close()
        for timer in filter(None, (self._linger, self._retry)):
            timer.close()
        self._sock.close()
        self._entry.note(self, 0)
        self._part()

    def _part(self) -> None:
        """Leave no cycle: ended connections, and gigabytes of half messages, would wait for the collector."""
        self._linger = self._retry = None
        self.on_messages = self.on_broken = self.on_closed = _ignore
        self._decoder.close()

    def _let_go(self) -> None:
        """Of the bodies that will not be sent, and of the descriptors that no message has claimed."""
        for part in (*self._gathered, *self._passing):
            if isinstance(part, Shared | Block):
                part.release()
        self._passing.clear()
        self._pieces.release()
        while self._descriptors:
            os.close(self._descriptors.popleft())


def _ignore(_: Any) -> None:
    """What a channel calls before its owner has said what to call."""
