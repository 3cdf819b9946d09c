"""hacd, asked from asyncio: as many tasks as may be in flight, each of which awaits its query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

from bench.measure import Job, Run, Tally, now
from hacd import AsyncClient


@contextmanager
def client_runs(job: Job, work: Callable[[AsyncClient, int], Coroutine[Any, Any, Tally]]) -> Iterator[Run]:
    """What `work` does with one client, on a loop of its own."""
    with asyncio.Runner() as runner:
        client = AsyncClient(job.socket)
        try:
            yield lambda count: runner.run(work(client, count))
        finally:
            runner.run(client.close())


@contextmanager
def tasks(job: Job) -> Iterator[Run]:
    """`AsyncClient.query` in tasks that share one connection."""

    async def task(client: AsyncClient, urls: Iterator[str], tally: Tally) -> None:
        for url in urls:
            begun = now()
            reply = await client.query(url)
            if reply.rs != 200 or len(reply.rb) != job.size:
                tally.failed(reply)
            tally.latencies.append(now() - begun)

    async def all_tasks(client: AsyncClient, count: int) -> Tally:
        tally, urls = Tally(), repeat(job.url, count)
        await asyncio.gather(*(task(client, urls, tally) for _ in range(job.in_flight)))
        return tally

    with client_runs(job, all_tasks) as run:
        yield run
