"""The clients' connections, with the test in the place of the daemon: what is heard, lost, and made again."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hacd import AsyncClient, Client, ConnectionLost, Unavailable, rpc
from hacd.client import connection as connections


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a client dials, with the test in the place of the daemon."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        sock.settimeout(10)
        yield sock


def nobody_dials(listener: socket.socket) -> bool:
    """Nobody has."""
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    return True


def answer_ping(sock: socket.socket, pid: int) -> None:
    """The one that comes next."""
    sock.sendall(rpc.response(rpc.unpack(sock.recv(4096))[1], None, {"pid": pid}))


def under_way(threads: ThreadPoolExecutor, client: Client, sock: socket.socket) -> Future[Any]:
    """A call that was heard and is not answered, behind one that was."""
    call = threads.submit(client.ping)
    answer_ping(sock, 1)
    assert call.result(10) == {"pid": 1}
    call = threads.submit(client.ping)
    assert sock.recv(4096)
    return call


def test_a_call_that_a_daemon_has_not_heard_goes_to_the_next(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there a moment ago, so the client does not look whether it still is."""
    monkeypatch.setattr(connections, "FRESH", 60.0)
    with ThreadPoolExecutor(1) as threads, Client(listener.getsockname(), descriptors=False) as client:
        for pid in (1, 2):
            call = threads.submit(client.ping)
            with listener.accept()[0] as sock:
                answer_ping(sock, pid)
                assert call.result(10) == {"pid": pid}
        listener.close()
        with pytest.raises(Unavailable):
            client.ping()


def test_a_call_that_a_daemon_has_heard_is_not_made_again(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FRESH", 60.0)
    with ThreadPoolExecutor(1) as threads, Client(listener.getsockname(), descriptors=False) as client:
        with listener.accept()[0] as sock:
            call = under_way(threads, client, sock)
        with pytest.raises(ConnectionLost):
            call.result(10)
        assert nobody_dials(listener)


def test_a_call_that_nobody_hears_is_not_made_for_ever(listener: socket.socket) -> None:
    """Whoever is there hangs up on each that dials."""
    with ThreadPoolExecutor(1) as threads, Client(listener.getsockname()) as client:
        listener.accept()[0].close()
        call = threads.submit(client.ping)
        listener.accept()[0].close()
        with pytest.raises(ConnectionLost):
            call.result(10)


def test_close_ends_the_calls_of_other_threads(listener: socket.socket) -> None:
    with ThreadPoolExecutor(1) as threads, Client(listener.getsockname(), descriptors=False) as client:
        with listener.accept()[0] as sock:
            call = under_way(threads, client, sock)
            client.close()
            with pytest.raises(ConnectionLost):
                call.result(10)
        assert nobody_dials(listener)


def test_close_takes_no_descriptor_from_a_thread_that_reads(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as threads, Client(listener.getsockname(), descriptors=False) as client:
        connection = client._connection
        assert connection is not None
        read, begins, goes_on = connection._receiver.read, threading.Event(), threading.Event()

        def held_read(flags: int = 0) -> int:
            if not flags:
                begins.set()
                goes_on.wait(30)
            return read(flags)

        monkeypatch.setattr(connection._receiver, "read", held_read)
        call = threads.submit(client.ping)
        assert begins.wait(10)
        client.close()
        was_open = connection._sock.fileno() >= 0
        goes_on.set()
        with pytest.raises(ConnectionLost, match="connection closed"):
            call.result(10)
        assert was_open
        assert connection._sock.fileno() < 0


def test_async_waits_where_as_many_have_dialled_as_there_is_room_for(listener: socket.socket) -> None:
    """So does the blocking client. It heard that its call was lost, which it had not made yet."""
    listener.listen(0)
    path = listener.getsockname()

    async def main(other: socket.socket) -> None:
        client = AsyncClient(path, descriptors=False)
        loop = asyncio.get_running_loop()
        call = loop.create_task(client.ping())
        await asyncio.sleep(0)
        cancelled = loop.create_task(AsyncClient(path).ping())
        await asyncio.sleep(0)
        cancelled.cancel()
        assert not call.done()
        accepted = [await loop.run_in_executor(None, listener.accept) for _ in range(2)]
        assert accepted[0][0].getpeername() == other.getsockname()
        await loop.run_in_executor(None, answer_ping, accepted[1][0], 1)
        assert await call == {"pid": 1}
        await client.close()
        for sock, _ in accepted:
            sock.close()

    with socket.socket(socket.AF_UNIX) as other:
        other.connect(path)
        asyncio.run(main(other))
