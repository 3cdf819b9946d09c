"""curl's sockets on the loop.

curl says for each descriptor what it waits for (`M_SOCKETFUNCTION`), and takes that back after
each transfer, only to ask for the same again with the next one on the same connection. A watch
is left running in between: that saves two system calls a transfer (about an eighth of a
transfer's cost). An event that nobody waits for then ends the watch.

The scar: when a descriptor is closed the kernel forgets its watch, and the loop does not learn
of it. So a watch that was left running is trusted only if curl has opened no socket since; else
it is started anew.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pycurl

from hacd import log
from hacd.loop import Loop, Poll

#: Before 8.20, libcurl opened descriptors of its own for each name it resolved, unseen by
#: OPENSOCKETFUNCTION; since then one for all, made with the multi.
TRUSTED_SINCE = 0x081400

_EVENTS = {pycurl.POLL_IN: 1, pycurl.POLL_OUT: 2, pycurl.POLL_INOUT: 3}


class _Watch:
    __slots__ = ("active", "opened", "poll", "wanted")

    def __init__(self, poll: Poll) -> None:
        self.poll = poll
        self.wanted = 0  # what curl waits for; 0: nothing
        self.active = 0  # what the poll runs for
        self.opened = -1  # how many sockets curl had opened when the poll was started


class Sockets:
    """The watches of one CurlMulti. `on_ready(fd, events)` takes CSELECT_* bits."""

    def __init__(self, loop: Loop, on_ready: Callable[[int, int], None]) -> None:
        self._loop = loop
        self._on_ready = on_ready
        self._watches: dict[int, _Watch] = {}
        self._by_poll: dict[Poll, tuple[int, _Watch]] = {}
        self._opened = 0
        self._lazy = pycurl.version_info()[2] >= TRUSTED_SINCE

    def open(self, _purpose: int, address: Any) -> socket.socket | int:
        """OPENSOCKETFUNCTION: a socket for curl, which takes its own copy of the descriptor."""
        self._opened += 1
        try:
            return socket.socket(address.family, address.socktype, address.protocol)
        except OSError as error:
            log.error("no socket for an origin: %s", error.strerror)
            return pycurl.SOCKET_BAD

    def want(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        """M_SOCKETFUNCTION. Law: nothing may be raised out of it, or curl aborts every transfer."""
        try:
            if what == pycurl.POLL_REMOVE:
                self._unwanted(fd)
            else:
                self._wanted(fd, _EVENTS.get(what, 0))
        except Exception:
            log.logger.exception("descriptor %d: cannot be watched", fd)

    def _wanted(self, fd: int, events: int) -> None:
        watch = self._watches.get(fd)
        if watch is None:
            watch = self._watches[fd] = _Watch(Poll(self._loop, fd))
            self._by_poll[watch.poll] = (fd, watch)
        fresh = watch.wanted == 0
        watch.wanted = events
        if watch.active == events and not (fresh and self._doubtful(watch)):
            return
        if fresh and watch.active:
            watch.poll.stop()
        watch.active, watch.opened = events, self._opened
        if events:
            watch.poll.start(events, self._ready)
        else:
            watch.poll.stop()

    def _doubtful(self, watch: _Watch) -> bool:
        return not self._lazy or watch.opened != self._opened

    def _unwanted(self, fd: int) -> None:
        watch = self._watches.get(fd)
        if watch is not None:
            watch.wanted = 0

    def _ready(self, poll: Poll, events: int | None, error: int | None) -> None:
        fd, watch = self._by_poll[poll]
        if not watch.wanted:
            poll.stop()
            watch.active = 0
        elif error is not None or events is None:
            self._on_ready(fd, pycurl.CSELECT_ERR)
        else:
            self._on_ready(fd, events)

    def close(self) -> None:
        """Watch nothing any more."""
        for watch in self._watches.values():
            watch.poll.close()
        self._watches.clear()
        self._by_poll.clear()
