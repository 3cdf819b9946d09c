"""hacd, asked with the blocking client: a pipeline of queries, and one query after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.measure import Job, Run, Tally, now
from bench.origin import BODY_SIZE
from hacd import Client


@contextmanager
def many(job: Job) -> Iterator[Run]:
    """`query_many`: a query's time begins when it is drawn, and ends when its reply is handed over."""

    def run(count: int) -> Tally:
        tally = Tally()
        drawn: list[int] = []

        def queries() -> Iterator[str]:
            for _ in range(count):
                drawn.append(now())
                yield job.url

        ended = tally.latencies.append
        for reply in client.query_many(queries(), job.in_flight):
            if reply.rs != 200 or len(reply.rb) != BODY_SIZE:
                tally.failed(reply)
            ended(now() - drawn[reply.index or 0])
        return tally

    with Client(job.socket) as client:
        yield run


@contextmanager
def one(job: Job) -> Iterator[Run]:
    """`query`, and the next when its reply has come."""

    def run(count: int) -> Tally:
        tally = Tally()
        for _ in range(count):
            begun = now()
            reply = client.query(job.url)
            if reply.rs != 200 or len(reply.rb) != BODY_SIZE:
                tally.failed(reply)
            tally.latencies.append(now() - begun)
        return tally

    with Client(job.socket) as client:
        yield run
