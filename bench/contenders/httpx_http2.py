"""httpx with HTTP/2, in the caller's own process: tasks that share one multiplexed connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

import httpx

from bench.measure import Job, Run, Tally, now


async def _ask(job: Job, http: httpx.AsyncClient, urls: Iterator[str], tally: Tally) -> None:
    for url in urls:
        begun = now()
        try:
            reply = await http.get(url)
            if reply.status_code != 200 or len(reply.content) != job.size or reply.http_version != "HTTP/2":
                tally.failed(f"status {reply.status_code}, {len(reply.content)} bytes, {reply.http_version}")
        except httpx.HTTPError as error:
            tally.failed(repr(error))
        tally.latencies.append(now() - begun)


@contextmanager
def tasks(job: Job) -> Iterator[Run]:
    """As many tasks as may be in flight. `http1` is off, else httpx would dial once for each of the first."""

    async def all_tasks(count: int) -> Tally:
        tally, urls = Tally(), repeat(job.url, count)
        await asyncio.gather(*(_ask(job, http, urls, tally) for _ in range(job.in_flight)))
        return tally

    context = ssl.create_default_context(cafile=job.ca)
    with asyncio.Runner() as runner:
        http = httpx.AsyncClient(http1=False, http2=True, verify=context, timeout=10, trust_env=False)
        try:
            yield lambda count: runner.run(all_tasks(count))
        finally:
            runner.run(http.aclose())
