"""aiohttp in the caller's own process: what an asyncio program would use without hacd.

One session with a connection for each task, on asyncio's own loop; each reply's status,
headers and body are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

import aiohttp

from bench.measure import Job, Run, Tally, now
from bench.origin import BODY_SIZE


@contextmanager
def session(job: Job) -> Iterator[Run]:
    """As many tasks as may be in flight, on one session."""

    async def dial() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=job.in_flight))

    async def task(urls: Iterator[str], tally: Tally) -> None:
        for url in urls:
            begun = now()
            async with http.get(url) as reply:
                body = await reply.read()
            if reply.status != 200 or len(body) != BODY_SIZE or not reply.headers:
                tally.failed(f"status {reply.status}, {len(body)} bytes")
            tally.latencies.append(now() - begun)

    async def all_tasks(count: int) -> Tally:
        tally, urls = Tally(), repeat(job.url, count)
        await asyncio.gather(*(task(urls, tally) for _ in range(job.in_flight)))
        return tally

    with asyncio.Runner() as runner:
        http = runner.run(dial())
        try:
            yield lambda count: runner.run(all_tasks(count))
        finally:
            runner.run(http.close())
