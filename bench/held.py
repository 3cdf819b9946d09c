"""What goes on beside measured queries: transactions that stay suspended, and callers who say nothing.

Both cost the bench nothing while they last: the origin of the suspended ones is a socket that nobody accepts on.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import BenchError
from bench.processes import LOOK
from hacd import Client, rpc

#: s until all are there
PATIENCE = 60.0

#: ms: longer than any run
TIMEOUT = 3_600_000

#: connections that the kernel accepts for the silent origin, which is what somaxconn allows by default
BACKLOG = 4096

#: queries that are written at once
BATCH = 1000


@contextmanager
def transactions(count: int, path: str) -> Iterator[None]:
    """`count` transactions of one caller, suspended until the block is left."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as silent, _connected(path) as caller:
        params = [f"http://127.0.0.1:{silent.getsockname()[1]}/", {"timeout": TIMEOUT}]
        for begin in range(0, count, BATCH):
            msgids = range(begin, min(begin + BATCH, count))
            caller.sendall(b"".join(rpc.request(msgid, "query", params) for msgid in msgids))
        _until(path, "in_flight", count)
        yield
        if (left := _figure(path, "in_flight")) < count:
            raise BenchError(f"of {count} transactions, only {left} were suspended to the end")


@contextmanager
def callers(count: int, path: str) -> Iterator[None]:
    """`count` callers who are connected until the block is left."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_connected(path))
        _until(path, "clients", count)
        yield


def _connected(path: str) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    caller.connect(path)
    return caller


def _figure(path: str, name: str) -> int:
    with Client(path) as client:
        return int(client.stats()[name])


def _until(path: str, name: str, count: int) -> None:
    end = time.monotonic() + PATIENCE
    while (there := _figure(path, name)) < count:
        if time.monotonic() > end:
            raise BenchError(f"{name}: {there} of {count} after {PATIENCE:.0f} s")
        time.sleep(LOOK)
