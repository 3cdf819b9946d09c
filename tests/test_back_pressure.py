"""Peers within the daemon that do not read as fast as they are written to: nobody is cut off for large bodies."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hacd import channel
from tests.conftest import StartOrigin
from tests.support.front import MIB, Rig
from tests.support.waiting import PATIENCE, wait_for

KIB = 1024

# With these bounds a few bodies of 100 KiB do what gigabytes do without; and those in an arena are not written.
PROGRAM = """
import socket, sys
from msgspec.structs import replace
from hacd import channel
from hacd.ledger import Ledger
from hacd.settings import Settings
from hacd.worker import fronts, process
channel.FULL, fronts.MAX_UNSENT = 300 * 1024, 1024 * 1024
settings = Settings()
settings = replace(settings, http_async_client=replace(settings.http_async_client, memory_manager="sys"))
process.main(settings, socket.socket(fileno=int(sys.argv[1])), [(sys.argv[2], Ledger(1))], 1)
"""

BODY = b"x" * (100 * KIB)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Worker:
    """A worker alone; `sock`: its line to the front, which is the test."""

    def __init__(self, directory: Path) -> None:
        path = str(directory / "workers.sock")
        self.log = directory / "worker.log"
        self.line, theirs = socket.socketpair()
        with closing(socket.socket(socket.AF_UNIX)) as listener, theirs, self.log.open("wb") as log:
            listener.bind(path)
            listener.listen()
            command = [sys.executable, "-c", PROGRAM, str(theirs.fileno()), path]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=log)
            listener.settimeout(PATIENCE)
            self.sock, _ = listener.accept()
        self.sock.settimeout(PATIENCE)
        self._unpacker = msgpack.Unpacker()
        assert self.receive()[1] == "hello"

    def send(self, *messages: Any) -> None:
        self.sock.sendall(b"".join(map(msgpack.packb, messages)))

    def receive(self) -> Any:
        while True:
            for message in self._unpacker:
                return message
            data = self.sock.recv(65536)
            assert data, self.log.read_text()
            self._unpacker.feed(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.line.send(b"E")
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()
        self.line.close()
        self.sock.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with closing(Worker(tmp_path)) as worker:
        yield worker


def job(number: int, url: str) -> list[Any]:
    return [number, url, 20_000, None, None, b"", time.monotonic_ns(), None, 0]


def test_a_front_that_does_not_read(worker: Worker, start_origin: StartOrigin) -> None:
    """It gets all bodies as soon as it does, but for those that it called off meanwhile."""
    sent: list[bytes] = []

    def script(sock: socket.socket, head: bytes) -> None:
        origin.release.wait(PATIENCE)
        sock.sendall(HEAD + BODY)
        sent.append(head)

    origin = start_origin(script)
    worker.send(*(job(number, origin.url) for number in range(1, 41)))
    wait_for("all queries", lambda: len(origin.heads) == 40)
    origin.release.set()
    wait_for("all bodies", lambda: len(sent) == 40)
    wait_for("the worker to write", lambda: unread_here(worker.sock))
    outcomes = [worker.receive() for _ in range(40)]
    assert sorted(outcome[0] for outcome in outcomes) == list(range(1, 41))
    assert {outcome[1] for outcome in outcomes} == {0}
    assert all(BODY in outcome[2] for outcome in outcomes)
    assert "front lost" not in worker.log.read_text()


def unread_here(sock: socket.socket) -> bool:
    """Whether there is much to be read."""
    return len(sock.recv(100 * KIB, socket.MSG_PEEK)) == 100 * KIB


def test_what_is_called_off_while_the_worker_is_held(worker: Worker, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda sock, _head: sock.sendall(HEAD + BODY) if origin.release.wait(PATIENCE) else None)
    worker.send(*(job(number, origin.url) for number in range(1, 31)))
    wait_for("all queries", lambda: len(origin.heads) == 30)
    origin.release.set()
    wait_for("the worker to write", lambda: unread_here(worker.sock))
    worker.send(*([number] for number in range(1, 31)))  # all of them
    worker.send(job(31, origin.url), [0, "ping", None])
    came = [worker.receive()]
    while came[-1][0] != 31:
        came.append(worker.receive())
    assert [0, "pong", None] in came
    ids = [message[0] for message in came if message[0]]
    assert len(set(ids)) == len(ids) < 31
    worker.send(job(32, origin.url))
    assert worker.receive()[0] == 32


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(channel, "FULL", MIB)
    with closing(Rig()) as rig:
        yield rig


def jobs_of(sock: socket.socket, rig: Rig, many: int) -> list[Any]:
    """The next jobs that the worker reads, and a goodbye."""
    sock.setblocking(False)
    unpacker = msgpack.Unpacker()
    jobs: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while len(jobs) < many and time.monotonic() < deadline:
        rig.turn()
        with contextlib.suppress(BlockingIOError):
            while data := sock.recv(1 << 20):
                unpacker.feed(data)
        jobs += [message for message in unpacker if message[0] or len(message) == 1]
    return jobs


def say(rig: Rig, data: bytes) -> None:
    """What the caller says, read while he says it."""
    for place in range(0, len(data), 64 * KIB):
        rig.theirs.sendall(data[place : place + 64 * KIB])
        rig.turn()


def all_came(rig: Rig, many: int) -> bool:
    """Whether so many queries are in the hash, after one more turn."""
    rig.turn()
    return len(rig.front.transactions) == many


@pytest.mark.parametrize("leaves", [False, True])
def test_a_worker_that_does_not_read(rig: Rig, leaves: bool) -> None:
    """Jobs with large bodies wait in the hash, in their order, and those that end there are not sent."""
    link, theirs = rig.worker()
    with theirs:
        theirs.send(msgpack.packb([0, "hello", {"number": 1, "pid": 1, "authmethods": 3, "http_versions": [0]}]))
        rig.turn()
        for number in range(20):
            options = {"body": b"%02d" % number + b"x" * (300 * KIB), "timeout": 20_000}
            say(rig, msgpack.packb([0, number, "query", ["http://x/", options]]))
        wait_for("all of them", lambda: all_came(rig, 20))
        assert len(link._waiting) > 10
        assert link.channel.backlog < 2 * MIB
        (session,) = rig.front.sessions
        rig.front.abort(session.transactions[15], 42, "called off")
        if leaves:
            theirs.send(msgpack.packb([0, "bye", None]))
        came = jobs_of(theirs, rig, 20 + leaves)
    bodies = [message[4][:2] for message in came if len(message) > 3]
    assert bodies == [b"%02d" % number for number in range(20) if number != 15]
    if leaves:
        assert came[-1] == [0]


REPORTS = """
import os, socket, sys
from hacd import shared
from hacd.ledger import Ledger
from hacd.outcome import Held
from hacd.settings import Settings
from hacd.worker.process import WorkerProcess
(worker,) = WorkerProcess(Settings(), socket.socketpair()[0], [("", Ledger(1))], 1)._links
body = shared.Shared(shared.create(), 0)
fd = body.fd
worker._report(1, 0, Held(b"", body, b""))
print(os.path.exists(f"/proc/self/fd/{fd}"))
"""


def test_a_body_in_shared_memory_without_a_front() -> None:
    said = subprocess.run([sys.executable, "-c", REPORTS], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
