"""hacd, asked from asyncio: as many tasks as may be in flight, each of which awaits its query."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

from bench.measure import Job, Run, Tally, now
from hacd import AsyncClient


@contextmanager
def tasks(job: Job) -> Iterator[Run]:
    """`AsyncClient.query` in tasks that share one connection."""

    async def task(urls: Iterator[str], tally: Tally) -> None:
        for url in urls:
            begun = now()
            reply = await client.query(url)
            if reply.rs != 200 or len(reply.rb) != job.size:
                tally.failed(reply)
            tally.latencies.append(now() - begun)

    async def all_tasks(count: int) -> Tally:
        tally, urls = Tally(), repeat(job.url, count)
        await asyncio.gather(*(task(urls, tally) for _ in range(job.in_flight)))
        return tally

    with asyncio.Runner() as runner:
        client = AsyncClient(job.socket)
        try:
            yield lambda count: runner.run(all_tasks(count))
        finally:
            runner.run(client.close())
