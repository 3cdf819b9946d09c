"""libcurl alone: an easy handle that serves one query after the other, and what it gathers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pycurl

from bench.measure import Job, Run, Tally, now


class Easy:
    """An easy handle that is set up once; a query sets its URL alone. `begun`: when, ns."""

    __slots__ = ("_body", "_head", "_size", "begun", "curl")

    def __init__(self, size: int) -> None:
        self.begun = 0
        self._size = size
        self._head: list[bytes] = []
        self._body: list[bytes] = []
        self.curl = pycurl.Curl()
        self.curl.setopt(pycurl.NOSIGNAL, 1)
        self.curl.setopt(pycurl.PROXY, "")
        self.curl.setopt(pycurl.TIMEOUT_MS, 10_000)
        self.curl.setopt(pycurl.USERAGENT, "bench")
        self.curl.setopt(pycurl.HEADERFUNCTION, self._head.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._body.append)

    def prepare(self, url: str) -> None:
        """A query begins."""
        self.begun = now()
        self.curl.setopt(pycurl.URL, url)

    def ended(self, tally: Tally) -> None:
        """Read status, header block and body, and be ready for the next query."""
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        head, body = b"".join(self._head), b"".join(self._body)
        self._head.clear()
        self._body.clear()
        if status != 200 or len(body) != self._size or not head:
            tally.failed(f"status {status}, {len(body)} bytes")
        tally.latencies.append(now() - self.begun)


@contextmanager
def perform(job: Job) -> Iterator[Run]:
    """One handle's `perform`, over and over, on the connection that it keeps."""
    easy = Easy(job.size)

    def run(count: int) -> Tally:
        tally = Tally()
        for _ in range(count):
            easy.prepare(job.url)
            try:
                easy.curl.perform()
            except pycurl.error as error:
                tally.failed(error)
            easy.ended(tally)
        return tally

    yield run
    easy.curl.close()
