"""hacd's own routes that chain: a closed loop within the daemon, as the C module's figures were measured.

The caller enters as many chains as may be in flight; each reply's route sends the next query, and the caller hears
of a chain's end alone. What the routes count is compared with what the daemon counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.contenders.hacd_asyncio import client_runs
from bench.measure import Job, Run, Tally
from hacd import AsyncClient, HacdError

#: The file of routes. `left` is the chain's own. A reply that is not the page ends its chain, which then falls short.
SCRIPT = """\
from hacd.routes import route


@route("CHAIN")
def chain(tx):
    vars = tx.vars
    reply = tx.http_reply
    if reply is not None:
        if reply.rs != 200 or len(reply.rb) != vars["size"]:
            return [vars["done"], str(reply)]
        vars["done"] += 1
    if vars["left"]:
        vars["left"] -= 1
        return tx.http_async_query(vars["url"], "CHAIN")
    return [vars["done"], ""]
"""


def _shares(count: int, chains: int) -> list[int]:
    """`count`, as evenly as it goes."""
    return [count // chains + (place < count % chains) for place in range(chains)]


@contextmanager
def chains(job: Job) -> Iterator[Run]:
    """No query has a time of its own here: the caller sees none of them."""

    async def chain(client: AsyncClient, length: int, tally: Tally) -> None:
        if not length:
            return
        vars: dict[str, Any] = {"url": job.url, "size": job.size, "left": length, "done": 0}
        try:
            done, why = await client.run("CHAIN", vars)
        except HacdError as error:
            tally.failed(error)
            return
        tally.untimed += done
        if done != length:
            tally.failed(why or f"a chain of {length} ended after {done}")

    async def all_chains(client: AsyncClient, count: int) -> Tally:
        tally = Tally()
        before = (await client.stats())["replies"]
        await asyncio.gather(*(chain(client, length, tally) for length in _shares(count, job.in_flight)))
        counted = (await client.stats())["replies"] - before
        if counted != count:
            tally.failed(f"the daemon counts {counted} replies, not {count}")
        return tally

    with client_runs(job, all_chains) as run:
        yield run
