"""hacd, asked with the blocking client: a pipeline of queries, and one query after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

from bench.measure import Job, Run, Tally, now
from hacd import Client, Reply

#: every page of a body is looked at where it may come mapped: one that is not looked at would cost nothing
PAGE = 4096


def _whole(reply: Reply, size: int) -> bool:
    return reply.rs == 200 and len(reply.rb) == size


def _seen(reply: Reply, size: int) -> bool:
    view = reply.view
    return reply.rs == 200 and len(view) == size and len(bytes(view[::PAGE])) == -(-size // PAGE)


@contextmanager
def _pipeline(job: Job, right: Callable[[Reply, int], bool]) -> Iterator[Run]:
    """`query_many`: a query's time begins when it is drawn, and ends when its reply is handed over."""
    items: list[Any] = [(url, job.options) for url in job.urls] if job.options else list(job.urls)

    def run(count: int) -> Tally:
        tally = Tally()
        drawn: list[int] = []

        def queries() -> Iterator[Any]:
            for item in islice(cycle(items), count):
                drawn.append(now())
                yield item

        ended = tally.latencies.append
        for reply in client.query_many(queries(), job.in_flight):
            if not right(reply, job.size):
                tally.failed(reply)
            ended(now() - drawn[reply.index or 0])
        return tally

    with Client(job.socket) as client:
        if job.http and (came := client.query(job.url, **job.options)).http_version != job.http:
            raise SystemExit(f"HTTP/{job.http} is wanted, and {came!r} came in {came.http_version}")
        yield run


@contextmanager
def many(job: Job) -> Iterator[Run]:
    """Each reply's status and the length of its body are looked at."""
    with _pipeline(job, _whole) as run:
        yield run


@contextmanager
def views(job: Job) -> Iterator[Run]:
    """The same, with bodies where they lie: those in shared memory are mapped, and each of their pages looked at."""
    with _pipeline(job, _seen) as run:
        yield run


@contextmanager
def one(job: Job) -> Iterator[Run]:
    """`query`, and the next when its reply has come."""

    def run(count: int) -> Tally:
        tally = Tally()
        for _ in range(count):
            begun = now()
            reply = client.query(job.url)
            if not _whole(reply, job.size):
                tally.failed(reply)
            tally.latencies.append(now() - begun)
        return tally

    with Client(job.socket) as client:
        yield run
