"""hacd, asked over connections that this module writes and reads itself: many callers, and an open loop.

Both want what no client of one caller has: one process that is a thousand callers, and queries that leave when
they are due, whatever has come back by then.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from bench.measure import Job, Run, Tally, now
from hacd import rpc
from hacd.client import calls


class Pipe:
    """One caller's connection. Unless `waits`, what the daemon does not take yet is kept for `flush`."""

    def __init__(self, path: str | None, waits: bool) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(calls.find_socket(path))
        self.socket.setblocking(waits)
        self._decoder = calls.decoder()
        self._out = bytearray()

    def send(self, data: bytes) -> None:
        """Write what can be written."""
        self._out += data
        self.flush()

    def flush(self) -> bool:
        """Write what was left; whether some is left still."""
        while self._out:
            try:
                sent = self.socket.send(self._out)
            except BlockingIOError:
                return True
            del self._out[:sent]
        return False

    def receive(self) -> list[Any]:
        """The messages that have come whole."""
        messages: list[Any] = []
        try:
            data = self.socket.recv(rpc.CHUNK)
        except BlockingIOError:
            return messages
        if not data:
            raise ConnectionError("the daemon hung up")
        self._decoder.feed(data, messages)
        return messages


def _query(job: Job, index: int) -> bytes:
    options: list[Any] = [job.options] if job.options else []
    return rpc.request(index & rpc.MSGID_MAX, "query", [job.urls[index % len(job.urls)], *options])


def _end(job: Job, message: Any, tally: Tally, begun: int) -> None:
    _, error, result = calls.ended(message)
    if error is not None or result["rs"] != 200 or len(result["rb"]) != job.size:
        tally.failed(error or {name: result[name] for name in ("code", "err", "rs")})
    tally.latencies.append(now() - begun)


@contextmanager
def callers(job: Job) -> Iterator[Run]:
    """So many callers take turns at sending the next query; as many are in flight in all as may be."""
    pipes = [Pipe(job.socket, waits=True) for _ in range(job.callers)]
    poll = select.epoll()
    by_fd = {pipe.socket.fileno(): pipe for pipe in pipes}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    turns = cycle(pipes)

    def send(begin: int, count: int, begun: list[int]) -> None:
        for index in range(begin, begin + count):
            begun.append(now())
            next(turns).send(_query(job, index))

    def run(count: int) -> Tally:
        tally, begun = Tally(), list[int]()
        send(0, min(count, job.in_flight), begun)
        while len(tally.latencies) < count:
            ended = len(tally.latencies)
            for fd, _ in poll.poll():
                for message in by_fd[fd].receive():
                    _end(job, message, tally, begun[message[1]])
            send(len(begun), min(len(tally.latencies) - ended, count - len(begun)), begun)
        return tally

    yield run
    poll.close()
    for pipe in pipes:
        pipe.socket.close()


@contextmanager
def paced(job: Job) -> Iterator[Run]:
    """An open loop: a query is due each 1/rate s. Its time begins when it is due: who is late is not let off."""
    pipe = Pipe(job.socket, waits=False)
    every = 1e9 / job.rate

    def run(count: int) -> Tally:
        tally = Tally()
        begun, sent = now(), 0
        while len(tally.latencies) < count:
            late = min(count, int((now() - begun) / every) + 1)
            if late > sent:
                pipe.send(b"".join(_query(job, index) for index in range(sent, late)))
                sent = late
            unsent = pipe.flush()
            wait = max(0.0, (begun + sent * every - now()) / 1e9) if sent < count else None
            readable, _, _ = select.select([pipe.socket], [pipe.socket] if unsent else [], [], wait)
            for message in pipe.receive() if readable else ():
                _end(job, message, tally, begun + int(message[1] * every))
        return tally

    yield run
    pipe.socket.close()
