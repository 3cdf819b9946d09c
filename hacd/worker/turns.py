"""How much of one turn of the loop a transfer may take: its neighbours wait for that, and not for what an origin sends.

Law: a transfer that had its share is paused, by its own callbacks, and goes on in a later turn; `Turns` lets those that
wait go on in the order in which they came, `AT_ONCE` in each turn. libcurl itself would read on for as long as an
origin sends: up to 11 reads for each event of a transfer, and once more with each event of any other's.

What brings no callback (extensions of chunks, padding, frames of control) is seen by the time that it takes. After a
turn that was too long for what is in flight, the transfers that have more to be read wait for their turns from then on.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from time import thread_time_ns
from typing import Any, Protocol

import pycurl

#: bytes of a body, and of header lines, that are a transfer's share; what was read already comes on top. Header lines
#: take libcurl and Python some fifteen times as long.
BODY_SHARE = 240 * 1024
HEAD_SHARE = 8 * 1024

#: transfers that go on in one turn, of those that had their share in an earlier one
AT_ONCE = 1

#: ns of a worker's CPU that a turn may take, and as many more for each transfer: an ordinary one takes a tenth of that
LONG, EACH = 10_000_000, 200_000

#: header lines between two looks at how many bytes they are: a reply with fewer pays for none
LINES = 32

_ALL_BUT_ONE = range(LINES - 1)


class Turns:
    """The transfers of one CurlMulti that had their share, and wait."""

    def __init__(self) -> None:
        self.waiting: dict[pycurl.Curl, None] = {}  # in the order in which they came
        self._slow: set[pycurl.Curl] = set()  # that wait again after each of their turns
        self.going: list[pycurl.Curl] = []  # of those, the ones whose turn this is

    def end(self, curl: pycurl.Curl) -> None:
        """Have libcurl take no more for this transfer until its next turn. For callbacks of that transfer's own."""
        if curl not in self.waiting:
            curl.pause(pycurl.PAUSE_RECV)
            self.waiting[curl] = None

    def slow_down(self, curls: Iterable[pycurl.Curl]) -> None:
        """The turn was too long: those of them that have something to be read had more than their share."""
        for curl in curls:
            if curl not in self.waiting and _unread(curl):
                self._slow.add(curl)
                self._end_from_outside(curl)

    def _end_from_outside(self, curl: pycurl.Curl) -> None:
        with suppress(pycurl.error):  # it is over
            self.end(curl)

    def go_on(self) -> None:
        """Let the first that wait go on, in the turn that begins when the loop has waited."""
        going, self.going = self.going, []
        for curl in going:
            self._end_from_outside(curl)
        for curl in list(self.waiting)[:AT_ONCE]:
            del self.waiting[curl]
            if curl in self._slow:
                self.going.append(curl)
            with suppress(pycurl.error):  # it has its outcome from `info_read`, or at its timeout
                curl.pause(pycurl.PAUSE_CONT)

    @property
    def has_any(self) -> bool:
        """Whether anybody waits, or is to wait again."""
        return bool(self.waiting or self.going)

    def knows(self, curl: pycurl.Curl) -> bool:
        """Whether it waits, or does so again and again."""
        return curl in self.waiting or curl in self._slow

    def has(self, fd: int) -> bool:
        """Whether a transfer that waits has this descriptor."""
        return any(curl.getinfo(pycurl.ACTIVESOCKET) == fd for curl in self.waiting)

    def forget(self, curl: pycurl.Curl) -> None:
        """Its transfer is over."""
        self.waiting.pop(curl, None)
        if curl in self._slow:
            self._slow.remove(curl)
            self.going = [other for other in self.going if other is not curl]


class Paced(Protocol):
    """Engines of a worker."""

    @property
    def in_flight(self) -> int:
        """Transfers that have not ended."""

    def slow_down(self) -> None:
        """The turn took too long."""


class Pace:
    """How much of the worker's CPU a turn has taken, with the engines of all fronts."""

    def __init__(self) -> None:
        self._all: list[Paced] = []
        self._turned = thread_time_ns()

    def add(self, engines: Paced) -> None:
        """These run in this worker, too."""
        self._all.append(engines)

    def turned(self) -> None:
        """A turn is over: has it been too long?"""
        self._turned = self._judge()

    def look(self) -> None:
        """The same in its middle: with each event libcurl may read on for all that had more to be read."""
        self._judge()

    def _judge(self) -> int:
        now = thread_time_ns()  # 0.6 µs: once a turn
        took = now - self._turned
        # The first says the same for most turns, without a look at each engine: 0.5 µs less.
        if took > LONG and took > LONG + EACH * sum([engines.in_flight for engines in self._all]):
            self._turned = now
            for engines in self._all:
                engines.slow_down()
        return now


def _unread(curl: pycurl.Curl) -> bool:
    """Whether something has come over its connection that libcurl has not read."""
    fd = curl.getinfo(pycurl.ACTIVESOCKET)
    try:
        return fd >= 0 and bool(int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder))
    except OSError:
        return False


def gather(head: list[bytes], most: int, pause: Callable[[], None]) -> Callable[[bytes], Any]:
    """HEADERFUNCTION that adds lines to `head`, for one transfer after the other; `head` is empty when one begins.

    It ends the transfer within 2 * LINES lines beyond `most` bytes, and calls `pause` for each HEAD_SHARE. A generator
    costs 0.03 µs a line more than `head.append` does; a function would cost 0.06.
    """
    lines = _gather(head, most, pause)
    next(lines)
    return lines.send


def _gather(head: list[bytes], most: int, pause: Callable[[], None]) -> Generator[int | None, bytes, None]:
    add = head.append
    seen = size = shared = 0
    answer = None
    while True:
        add((yield answer))
        for _ in _ALL_BUT_ONE:
            add((yield None))
        if len(head) != seen + LINES:  # some of these were another transfer's
            seen = size = shared = 0
            answer = None
            if len(head) < LINES:
                continue
        size += sum(map(len, head[seen:]))
        seen = len(head)
        if size - shared > HEAD_SHARE:
            shared = size
            pause()
        answer = -1 if size > most else None
