"""libcurl alone on the daemon's loop: the ceiling, that no process between can pass.

It is what a program would be that did nothing else: handles are pooled and set up once, the
sockets are watched as the daemon's workers watch them, and no message is made of a reply.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pycurl

from bench import BenchError
from bench.contenders.bare_easy import Easy
from bench.measure import Job, Run, Tally
from hacd.loop import Loop, Prepare, Timer
from hacd.worker.sockets import Sockets, Watches

#: connections kept open, used or not: as the daemon's workers have it
CONNECTIONS = 1024


class _Multi:
    """A CurlMulti that keeps `in_flight` queries under way until enough have been asked."""

    def __init__(self, job: Job) -> None:
        self._url = job.url
        self._loop = Loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, max(CONNECTIONS, job.in_flight))
        self._watches = Watches(self._loop)
        self._sockets = Sockets(self._watches, self._multi)
        self._timer = Timer(self._loop)
        self._prepare = Prepare(self._loop)
        self._easies = {easy.curl: easy for easy in (Easy(job.size) for _ in range(job.in_flight))}
        self._tally = Tally()
        self._left = self._under_way = 0
        for curl in self._easies:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._sockets.open)
        self._prepare.start(self._tick)

    def run(self, count: int) -> Tally:
        """Ask `count` times."""
        self._tally, self._left = Tally(), count
        for easy in self._easies.values():
            self._begin(easy)
        self._loop.run()
        return self._tally

    def _begin(self, easy: Easy) -> None:
        if self._left:
            self._left -= 1
            self._under_way += 1
            easy.prepare(self._url)
            self._multi.add_handle(easy.curl)

    def _tick(self, _prepare: Any) -> None:
        """Before the loop waits: begin what was added, take out what is done, until curl waits too."""
        multi = self._multi
        while True:
            if multi.timeout() == 0:
                self._sockets.act(pycurl.SOCKET_TIMEOUT, 0)
            self._drain()
            if not self._under_way:
                self._loop.stop()
                return
            wait = multi.timeout()
            if wait:
                break
        if self._sockets.failed:
            raise BenchError("bare CurlMulti: socket_action failed")
        if wait > 0:
            self._timer.start(_nothing, wait / 1000, 0)
        self._watches.wait_begins()  # without that, no watch would be left running between two queries

    def _drain(self) -> None:
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._ended(curl)
            for curl, _, text in failed:
                self._tally.failed(text)
                self._ended(curl)

    def _ended(self, curl: pycurl.Curl) -> None:
        self._multi.remove_handle(curl)
        self._under_way -= 1
        easy = self._easies[curl]
        easy.ended(self._tally)
        self._begin(easy)

    def close(self) -> None:
        """Give all back: handles first, then the multi."""
        for curl in self._easies:
            curl.close()
        self._multi.close()
        self._sockets.close()
        self._timer.close()
        self._prepare.close()
        self._loop.close()


def _nothing(_timer: Any) -> None:
    """The timer wakes the loop up; the tick does what is due."""


@contextmanager
def multi(job: Job) -> Iterator[Run]:
    """As many handles as may be in flight, on one loop."""
    bare = _Multi(job)
    yield bare.run
    bare.close()
