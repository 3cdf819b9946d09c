"""A worker alone, with the test in the place of the front."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import msgpack
import pycurl
import pytest

from hacd.flusher import Flusher
from hacd.ledger import Ledger
from hacd.loop import Loop, Timer
from hacd.settings import Settings
from hacd.worker.fronts import FrontLink
from hacd.worker.sockets import Watches
from tests.conftest import StartOrigin
from tests.support.origins import answer
from tests.support.waiting import PATIENCE, wait_for

PROGRAM = """
import socket, sys
from hacd.ledger import Ledger
from hacd.settings import Settings
from hacd.worker import process
process.main(Settings(), socket.socket(fileno=int(sys.argv[1])), [(sys.argv[2], Ledger(1))], 1)
"""


class Front:
    """What a worker dials, and who stops it."""

    def __init__(self, directory: Path) -> None:
        path = str(directory / "workers.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(PATIENCE)
        self.line, theirs = socket.socketpair()
        command = [sys.executable, "-c", PROGRAM, str(theirs.fileno()), path]
        self.log = directory / "worker.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=log)
        theirs.close()

    def accept(self) -> socket.socket:
        """The worker's connection, once it said hello."""
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE)
        assert b"hello" in connection.recv(1000)
        return connection

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.line.send(b"E")  # it may have ended by itself
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()
        assert "Traceback" not in self.log.read_text()
        self.line.close()
        self.listener.close()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    front = Front(tmp_path)
    yield front
    front.close()


def job(number: int, url: str, shape: bytes = b"", login: tuple[str, str] | None = None) -> bytes:
    packed: bytes = msgpack.packb([number, url, 5000, None, None, shape, time.monotonic_ns(), login, 0])
    return packed


def test_front_that_goes_while_connections_are_made(front: Front, start_origin: StartOrigin) -> None:
    """The outcome of a job that is refused at once cannot be written: the transfers that were begun in
    the same turn are called off, with descriptors that the loop has not handed to the kernel yet."""
    origin = start_origin(answer)
    for _ in range(3):
        connection = front.accept()
        connection.sendall(job(1, origin.url))
        assert b"ok" in connection.recv(65536)
        os.kill(front.process.pid, signal.SIGSTOP)
        connection.sendall(job(2, "http://[bad/") + b"".join(job(10 + n, f"{origin.url}/{n}") for n in range(20)))
        connection.close()
        os.kill(front.process.pid, signal.SIGCONT)
    front.accept().close()  # it lives, and dials again


def test_end_without_a_front(front: Front) -> None:
    front.accept().close()
    wait_for("the worker to run", lambda: front.process.poll() is None)


def test_front_that_does_not_accept_holds_nobody(tmp_path: Path) -> None:
    """As many have dialled already as the system has room for."""
    path, loop = str(tmp_path / "workers.sock"), Loop()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(path)
        listener.listen(0)
        other.connect(path)
        link = FrontLink(loop, Flusher(loop), Watches(loop), Settings(), path, Ledger(1), 1, none, none)
        dialling = threading.Thread(target=link.dial)
        dialling.start()
        dialling.join(PATIENCE)
        held = dialling.is_alive()
        listener.accept()[0].close()
        dialling.join(PATIENCE)
    link.engines.close()
    loop.close()
    assert not held


def test_no_descriptor_is_left_to_dial_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a callback raises would end the worker, and with it what it does for other fronts."""
    path, loop = str(tmp_path / "workers.sock"), Loop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        link = FrontLink(loop, Flusher(loop), Watches(loop), Settings(), path, Ledger(1), 1, none, none)
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Mock(side_effect=OSError(24, "Too many open files")))
            link.dial()
        stop = Timer(loop)
        stop.start(lambda _timer: loop.stop(), 0, 0.01)

        def dials() -> bool:
            loop.run()
            return link._channel is not None

        wait_for("another attempt", dials)
        link._channel.close()  # type: ignore[union-attr]
    link.engines.close()
    loop.close()


def none() -> None:
    """Who is told of nothing."""


def test_bye_is_answered_before_it_ends(front: Front, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with front.accept() as connection:
        front.line.send(b"D")
        assert msgpack.unpackb(connection.recv(100)) == [0, "bye", None]
        connection.sendall(job(7, origin.url) + msgpack.packb([0]))  # was on its way when the worker said bye
        assert b"ok" in connection.recv(65536)
        assert front.process.wait(PATIENCE) == 0


@pytest.mark.skipif(bool(pycurl.version_info()[4] & pycurl.VERSION_NTLM), reason="this libcurl has NTLM")
def test_login_that_libcurl_lacks(front: Front, start_origin: StartOrigin) -> None:
    """The front refuses it; but one that waited for the first worker comes through."""
    origin = start_origin(answer)
    ntlm = msgpack.packb({"authmethod": 8})
    with front.accept() as connection:
        connection.sendall(job(1, origin.url, ntlm, ("alice", "secret")))
        id_, code, _outcome = msgpack.unpackb(connection.recv(65536))
        assert (id_, code, origin.heads) == (1, 4, [])
        connection.sendall(job(2, origin.url, ntlm))
        assert msgpack.unpackb(connection.recv(65536))[:2] == [2, 0]
