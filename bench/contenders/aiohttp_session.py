"""aiohttp in the caller's own process: what an asyncio program would use without hacd.

One session with a connection for each task, on asyncio's own loop or on uvloop; each reply's status,
headers and body are read.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import aiohttp

from bench.measure import Job, Run, Tally, now

#: s; as the daemon's queries have it, so that an origin that hangs is a failure and no hang
TIMEOUT = aiohttp.ClientTimeout(total=10)


async def _dial(job: Job) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cafile=job.ca) if job.ca else True
    connector = aiohttp.TCPConnector(limit=job.in_flight, ssl=context)
    return aiohttp.ClientSession(connector=connector, timeout=TIMEOUT)


async def _ask(job: Job, http: aiohttp.ClientSession, urls: Iterator[str], tally: Tally) -> None:
    for url in urls:
        begun = now()
        try:
            async with http.get(url) as reply:
                body = await reply.read()
            if reply.status != 200 or len(body) != job.size or not reply.headers:
                tally.failed(f"status {reply.status}, {len(body)} bytes")
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.failed(repr(error))
        tally.latencies.append(now() - begun)


@contextmanager
def _session(job: Job, loop: Callable[[], asyncio.AbstractEventLoop] | None) -> Iterator[Run]:
    async def all_tasks(count: int) -> Tally:
        tally, urls = Tally(), islice(cycle(job.urls), count)
        await asyncio.gather(*(_ask(job, http, urls, tally) for _ in range(job.in_flight)))
        return tally

    with asyncio.Runner(loop_factory=loop) as runner:
        http = runner.run(_dial(job))
        try:
            yield lambda count: runner.run(all_tasks(count))
        finally:
            runner.run(http.close())


@contextmanager
def session(job: Job) -> Iterator[Run]:
    """As many tasks as may be in flight, on one session."""
    with _session(job, None) as run:
        yield run


@contextmanager
def uvloop(job: Job) -> Iterator[Run]:
    """The same on uvloop."""
    from uvloop import new_event_loop

    with _session(job, new_event_loop) as run:
        yield run
