"""curl's sockets on the loop.

curl says for each descriptor what it waits for (`M_SOCKETFUNCTION`), and takes that back after
each transfer, only to ask for the same again with the next one on the same connection. A watch
is left running in between: that saves two system calls a transfer (about an eighth of a
transfer's cost). An event that nobody waits for then ends the watch.

Two scars keep that safe:
- When a descriptor is closed the kernel forgets its watch, and the loop does not learn of it. So
  a watch that was left running is trusted only if curl has opened no socket since; else it is
  started anew.
- libuv hands a watch to the kernel only when it next waits, and aborts the process if the
  descriptor is closed by then, or has become a file's. So of the watches that the kernel has not
  got yet, only those are left running whose descriptor is open and can be watched at that moment.

Law: who opens a descriptor in this process that is not curl's, and watches it, calls `settle`
first: a watch that was left running on that number would take its events away.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import pycurl

from hacd import log
from hacd.loop import READABLE, WRITABLE, Loop, Poll
from hacd.worker.turns import LONG, Pace

#: Before 8.20, libcurl opened descriptors of its own for each name it resolved, unseen by
#: OPENSOCKETFUNCTION; since then one for all, made with the multi.
TRUSTED_SINCE = 0x081400

#: ns of the clock beyond all times
NEVER = 1 << 62

#: Sockets that curl acts on, in one turn of the loop, between two looks at what has ended. A turn may bring
#: hundreds, and the front, the caller and the origin would idle until the last of them.
BATCH = 16

# curl's POLL_IN and POLL_OUT are the loop's READABLE and WRITABLE, and so are its CSELECT_ bits.
assert (pycurl.POLL_IN, pycurl.POLL_OUT, pycurl.POLL_INOUT) == (READABLE, WRITABLE, READABLE | WRITABLE)
assert (pycurl.CSELECT_IN, pycurl.CSELECT_OUT) == (READABLE, WRITABLE)


class _Watch:
    """What curl wants of one descriptor, and what the loop does about it."""

    __slots__ = ("active", "fd", "opened", "poll", "sockets", "turn", "wanted")

    def __init__(self, sockets: Sockets, fd: int, poll: Poll) -> None:
        self.sockets = sockets
        self.fd = fd
        self.poll = poll
        self.wanted = 0  # what curl waits for; 0: nothing
        self.active = 0  # what the poll runs for
        self.opened = -1  # how many sockets curl had opened when the poll was started
        self.turn = -1  # the loop's turn in which it was started

    def stop(self) -> None:
        """Watch no more, and have the kernel know it."""
        if self.active:
            self.poll.stop()
            self.active = 0

    def ready(self, _poll: Poll, events: int | None, error: int | None) -> None:
        """The loop found the descriptor ready."""
        if not self.wanted:
            self.stop()
            if not self.sockets.is_paused(self.fd):
                _refuse_unasked(self.fd)
            return
        if events is None:
            self.active = 0  # with an error, the loop stops the poll itself
            events = pycurl.CSELECT_ERR
        sockets = self.sockets
        try:
            sockets.act(self.fd, events)
        except pycurl.error:
            sockets.failed = True
        table = sockets.table
        now = monotonic_ns()
        if now - table.acted > LONG:
            table.pace.look()
        table.acted = now
        sockets.acts += 1
        if sockets.acts >= BATCH:
            sockets.acts = 0
            sockets.on_batch()


def _nothing() -> None:
    """Nobody looks before the turn ends."""


def _none(_fd: int) -> bool:
    """No transfer is paused."""
    return False


def _may_be_watched(fd: int) -> bool:
    """Whether it is open, and nothing that the kernel refuses to watch: a body's memfd may have taken its number."""
    try:
        return not stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False


def _refuse_unasked(fd: int) -> None:
    """An idle connection became readable. An HTTP reply there answers nobody: no later query shall get it.

    libcurl does not look before it uses a connection again that was idle for less than a second.
    It does find out that this one is shut, and takes another.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return  # closed by now, or no socket: curl has a descriptor to wake itself up
    try:
        if sock.recv(5, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"HTTP/":
            sock.shutdown(socket.SHUT_RDWR)
            log.warning("an origin sent a reply that nobody asked for; connection dropped")
            while sock.recv(65536, socket.MSG_DONTWAIT):
                continue
    except OSError as error:
        log.debug("an idle connection became readable: %s", error.strerror)
    finally:
        sock.detach()  # it is curl's to close


class Watches:
    """The watches of all CurlMultis of a process, by descriptor: a number goes from one multi to the other."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.by_fd: dict[int, _Watch] = {}
        self.opened = 0  # sockets, by any of them
        self.turn = 0
        self.acted = NEVER  # when curl last had acted on one in this turn: ns of the clock
        self.pace = Pace()  # is asked where that is long ago: it may have taken all that time
        self.unknown: list[_Watch] = []  # unwanted since, but started in this turn: the kernel has them not yet

    def wait_begins(self) -> None:
        """The loop waits next, and hands the watches that were started so far to the kernel.

        To be called at the end of each turn; without it no watch is ever left running.
        """
        self.turn += 1
        self.acted = NEVER
        if self.unknown:
            unknown, self.unknown = self.unknown, []
            for watch in unknown:
                if not watch.wanted and not _may_be_watched(watch.fd):
                    watch.stop()

    def settle(self) -> None:
        """Leave no watch running that curl does not want."""
        for watch in self.by_fd.values():
            if not watch.wanted:
                watch.stop()


class Sockets:
    """What one CurlMulti does with its sockets. `failed`: `socket_action` raised, the multi's state is unknown."""

    def __init__(self, watches: Watches, multi: pycurl.CurlMulti) -> None:
        self.table = watches
        self._next_complaint = 0.0
        self._lazy = pycurl.version_info()[2] >= TRUSTED_SINCE
        self._multi = multi
        self.act: Callable[[int, int], tuple[int, int]] = multi.socket_action
        self._held: list[_Watch] = []  # that are not watched until `go_on`
        self.failed = False
        self.acts = 0  # since the last look
        self.on_batch: Callable[[], None] = _nothing
        self.is_paused: Callable[[int], bool] = _none  # a transfer has that descriptor, and is not to be read for now
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._want)

    def hold(self) -> None:
        """Let curl act on no socket until `go_on`. One that is ready is not watched until then."""
        self.act = self._put_off

    def _put_off(self, fd: int, _events: int) -> tuple[int, int]:
        watch = self.table.by_fd[fd]
        watch.stop()
        self._held.append(watch)
        return 0, 0

    def go_on(self) -> None:
        """Let curl act, and watch again what it waits for."""
        self.act = self._multi.socket_action
        held, self._held = self._held, []
        for watch in held:
            if watch.wanted:
                self._want(watch.wanted, watch.fd, None, None)

    def open(self, _purpose: int, address: Any) -> socket.socket | int:
        """OPENSOCKETFUNCTION: a socket for curl, which takes its own copy of the descriptor."""
        self.table.opened += 1
        try:
            sock = socket.socket(address.family, address.socktype, address.protocol)
            os.close(os.dup(sock.fileno()))  # where there is no room for curl's copy, nobody else would say so
            return sock
        except OSError as error:
            self._no_socket(error)
            return int(pycurl.SOCKET_BAD)

    def _no_socket(self, error: OSError) -> None:
        """Log it, once a second: where one is lacking, thousands are."""
        now = time.monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + 1
            log.error("no socket for an origin: %s", error.strerror)

    def _want(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        """M_SOCKETFUNCTION. Law: nothing may be raised out of it, or curl aborts every transfer."""
        table = self.table
        watch = table.by_fd.get(fd)
        if what == pycurl.POLL_REMOVE:
            if watch is not None and watch.sockets is self:
                watch.wanted = 0
                if watch.turn == table.turn:
                    table.unknown.append(watch)
            return
        # The common case first: the same again, on a connection that was kept.
        if watch is not None and watch.active == what and watch.opened == table.opened and self._lazy:
            watch.wanted = what
            return
        try:
            self._watch(watch, what, fd)
        except Exception:  # noqa: BLE001
            log.logger.exception("descriptor %d: cannot be watched", fd)
            self.failed = True

    def _watch(self, watch: _Watch | None, events: int, fd: int) -> None:
        table = self.table
        if watch is None:
            watch = table.by_fd[fd] = _Watch(self, fd, Poll(table.loop, fd))
        if watch.active and (not watch.wanted or watch.sockets is not self):
            watch.stop()  # it may be the watch of a socket that is closed
        watch.sockets = self
        watch.wanted = events
        if not events:
            watch.stop()
            return
        watch.active, watch.opened, watch.turn = events, table.opened, table.turn
        watch.poll.start(events, watch.ready)

    def close(self) -> None:
        """Watch nothing any more."""
        table = self.table
        for fd, watch in list(table.by_fd.items()):
            if watch.sockets is self:
                watch.stop()  # `wait_begins` may still come upon it
                watch.poll.close()
                del table.by_fd[fd]
