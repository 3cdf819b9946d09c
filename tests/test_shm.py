"""Bodies in shared memory: every byte of them, who gets them how, and that none is kept."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import mmap
import os
import pickle
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from hacd import AsyncClient, Client, Reply, shared
from hacd.settings import Settings
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import Nginx, RawOrigin
from tests.support.waiting import wait_for
from tests.support.wire import Taker, Wire

KIB, MIB = 1024, 1024 * 1024
THRESHOLD = Settings().hacd.shm_threshold
SIZES = [0, 1000, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 * THRESHOLD, MIB + 7, 5 * MIB]


def served(nginx: Nginx, size: int) -> tuple[str, bytes]:
    """URL and bytes of a body of that size; any byte is in it, NUL too."""
    path = nginx.files / f"any-{size}"
    if not path.exists():
        path.write_bytes(os.urandom(size // 2) + bytes(size - size // 2))
    return f"{nginx.url}/file/{path.name}", path.read_bytes()


def memfds(pid: int) -> int:
    """Bodies in shared memory of which that process has a descriptor."""
    return sum("memfd:hacd-body" in os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir())


def own() -> int:
    """Bodies of which this process has one, and which are in use."""
    gc.collect()
    return memfds(os.getpid())


def settled(daemon: Daemon) -> dict[str, Any]:
    """Until nothing is in flight and no process of the daemon has a body; the counters then."""
    stats = daemon.wait_idle()
    for name in ("front", "worker 1"):
        wait_for(f"{name} to let go of all", lambda name=name: memfds(daemon.pid(name)) == 0)  # type: ignore[misc]
    wait_for("shm_used to be 0", lambda: daemon.stats()["shm_used"] == 0)
    return stats


def halfway(start_origin: StartOrigin, size: int) -> RawOrigin:
    """An origin that stops in the middle of a body until it is released."""

    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size // 2))
        origin.release.wait(30)
        sock.sendall(bytes(size - size // 2))

    origin = start_origin(script)
    return origin


# -- every byte, to every kind of caller


def by_client(path: str, url: str) -> bytes:
    with Client(path) as client:
        return client.query(url).rb


def by_client_without(path: str, url: str) -> bytes:
    with Client(path, descriptors=False) as client:
        return client.query(url).rb


async def _by_async(path: str, url: str) -> bytes:
    async with AsyncClient(path) as client:
        return (await client.query(url)).rb


def by_asyncio(path: str, url: str) -> bytes:
    return asyncio.run(_by_async(path, url))


def by_uvloop(path: str, url: str) -> bytes:
    coroutine: Coroutine[Any, Any, bytes] = _by_async(path, url)
    body: bytes = uvloop.run(coroutine)
    return body


def by_wire(path: str, url: str) -> bytes:
    with Wire(path) as wire:
        error, reply = wire.call("query", [url])
        assert error is None
        return bytes(reply["rb"])


def taken(wire: Taker, reply: dict[str, Any]) -> bytes:
    """The body of the next reply that has come, in whatever way it did."""
    if isinstance(reply["rb"], bytes):
        return reply["rb"]
    fd, size = wire.body(reply)
    try:
        return os.pread(fd, size + 1, 0)
    finally:
        os.close(fd)


def by_taker(path: str, url: str) -> bytes:
    with Taker(path) as wire:
        error, reply = wire.call("query", [url])
        assert error is None
        assert isinstance(reply["rb"], bytes) is (int(url.rpartition("-")[2]) < THRESHOLD)
        return taken(wire, reply)


CALLERS = [by_client, by_client_without, by_asyncio, by_uvloop, by_wire, by_taker]


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__)
def test_every_byte(daemon: Daemon, nginx: Nginx, caller: Callable[[str, str], bytes]) -> None:
    for size in SIZES:
        url, body = served(nginx, size)
        assert caller(daemon.socket, url) == body


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__)
def test_every_byte_with_sys(
    start_daemon: StartDaemon, nginx: Nginx, monkeypatch: pytest.MonkeyPatch, caller: Callable[[str, str], bytes]
) -> None:
    daemon = start_daemon(memory_manager="sys")
    monkeypatch.setattr("tests.test_shm.THRESHOLD", MIB * MIB)  # no descriptor comes
    for size in (1000, 2 * MIB):
        url, body = served(nginx, size)
        assert caller(daemon.socket, url) == body
    assert (memfds(daemon.pid("worker 1")), daemon.stats()["shm_used"]) == (0, 0)


def test_what_is_taken_cannot_be_changed(daemon: Daemon, nginx: Nginx) -> None:
    url, body = served(nginx, MIB + 7)
    with Taker(daemon.socket) as wire:
        fd, size = wire.body(wire.call("query", [url])[1])
        assert size == len(body) == os.fstat(fd).st_size
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == seals
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        for length in (size - 1, size + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, length)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, size, access=mmap.ACCESS_WRITE)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0)
        assert mmap.mmap(fd, size, access=mmap.ACCESS_READ)[:] == body
        os.close(fd)


def test_replies_of_unsuspended_queries(daemon: Daemon, nginx: Nginx) -> None:
    url, body = served(nginx, 2 * THRESHOLD)
    with Taker(daemon.socket) as wire:
        wire.send(*([0, number, "send", [url, {"xdata": number}]] for number in range(3)))
        messages = [wire.receive() for _ in range(6)]
        replies = [message[2][0] for message in messages if message[0] == 2]
        assert {reply["xdata"] for reply in replies} == {0, 1, 2}
        for reply in replies:
            fd, size = wire.body(reply)
            assert os.pread(fd, size, 0) == body
            os.close(fd)


def test_the_example_of_the_protocol_page(daemon: Daemon, nginx: Nginx, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
    program = page.split("## Bodies as descriptors")[1].split("```python")[1].split("```")[0]
    program = program.replace("/run/hacd/hacd.sock", daemon.socket)
    for size in (1000, 5 * MIB):
        url, body = served(nginx, size)
        names: dict[str, Any] = {}
        exec(program.replace("http://example.com/large", url), names)
        assert capsys.readouterr().out == f"{size} {body[:20]!r}\n"
        names["sock"].close()


def test_hello_says_whether_descriptors_are_taken(daemon: Daemon) -> None:
    with Wire(daemon.socket) as wire:
        assert wire.call("hello", [])[1]["descriptors"] is False
        assert wire.call("hello", [{"descriptors": True}])[1]["descriptors"] is True
        assert wire.call("hello", [{"later": 1}])[1]["descriptors"] is True
        error, _ = wire.call("hello", [{"descriptors": 1}])
        assert error["code"] == "bad_request"
        assert "descriptors: 1 is wrong" in error["message"]
        assert wire.call("hello", [{"descriptors": False}])[1]["descriptors"] is False


def test_routes_of_the_daemon(start_daemon: StartDaemon, nginx: Nginx, tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(
        "from hacd.routes import route\n"
        '@route("LARGE")\n'
        "async def large(tx):\n"
        '    reply = await tx.query("$url")\n'
        "    return reply.rb\n"
        '@route("TAKES")\n'
        "def takes(tx):\n"
        '    tx.log("took $http_bs bytes")\n'
    )
    daemon = start_daemon(routes=tmp_path / "routes.py")
    url, body = served(nginx, MIB + 7)
    with daemon.client() as client:
        assert client.call("run", ["LARGE", {"url": url}]) == body
        client.send(url, "TAKES")
        wait_for("the route to take it", lambda: f"took {len(body)} bytes" in daemon.log)
    settled(daemon)


# -- the Python clients


def test_a_reply_with_its_body_in_shared_memory(daemon: Daemon, nginx: Nginx) -> None:
    url, body = served(nginx, MIB + 7)
    with daemon.client() as client:
        reply = client.query(url)
        before = own()
        assert (reply.bs, reply.ml) == (len(body), len(reply.head) + len(body))
        assert own() == before  # neither has read it
        view = reply.view
        assert view.readonly
        assert view == body
        assert reply.rb == body
        assert reply.rb is reply.rb
        assert reply.mb == reply.head + body
        assert reply.as_map()["rb"] == body
        assert pickle.loads(pickle.dumps(reply)).rb == body
        del reply
        assert bytes(view[-7:]) == body[-7:]  # outlives its reply
        assert client.call("query", [url])["rb"] == body


def test_a_reply_without(daemon: Daemon, nginx: Nginx) -> None:
    with daemon.client() as client:
        reply = client.query(nginx.url)
    assert (bytes(reply.view), reply.bs) == (reply.rb, 53)
    assert bytes(Reply({}).view) == b""


def test_a_reply_that_is_dropped_closes_its_descriptor(daemon: Daemon, nginx: Nginx) -> None:
    url, _ = served(nginx, MIB)
    with daemon.client() as client:
        before = own()
        replies = [client.query(url) for _ in range(3)]
        assert own() == before + 3
        assert len(replies.pop().rb) == MIB
        views = [replies.pop().view]
        assert own() == before + 2  # one is not read, one is mapped
        replies.clear()
        views.clear()
        assert own() == before


def test_descriptors_of_a_client_are_bounded(daemon: Daemon, nginx: Nginx) -> None:
    url, body = served(nginx, THRESHOLD)
    with daemon.client() as client:
        replies = list(client.query_many([url] * (shared.UNREAD + 40)))
    assert own() <= shared.UNREAD
    assert all(reply.rb == body for reply in replies)
    assert own() == 0


def test_query_many(daemon: Daemon, nginx: Nginx) -> None:
    small, large = served(nginx, 1000), served(nginx, 3 * THRESHOLD)
    pages = [large if number % 3 else small for number in range(90)]
    with daemon.client() as client:
        got = {reply.index: reply.rb for reply in client.query_many(url for url, _ in pages)}
    assert [got[number] for number in range(90)] == [body for _, body in pages]

    async def many() -> dict[int | None, bytes]:
        async with AsyncClient(daemon.socket) as client:
            return {reply.index: reply.rb async for reply in client.query_many(url for url, _ in pages)}

    got = asyncio.run(many())
    assert [got[number] for number in range(90)] == [body for _, body in pages]


def test_a_client_that_nobody_reads_from(daemon: Daemon, nginx: Nginx) -> None:
    """The replies of its `send`s come while nobody calls, and nobody gets their bodies."""
    url, body = served(nginx, MIB)
    with daemon.client() as client:
        for _ in range(3):
            assert client.send(url)
        daemon.wait_idle()
        assert client.query(url).rb == body
    assert own() == 0
    settled(daemon)


# -- the bound


def test_shm_size(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """A body past it is whole all the same; and what was taken is given back, time and again."""
    daemon = start_daemon(shm_size=MIB)
    with daemon.client() as client:
        url, body = served(nginx, 900 * KIB)
        assert all(client.query(url).rb == body for _ in range(5))
        assert client.stats()["shm_fallbacks"] == 0
        url, body = served(nginx, 5 * MIB)
        assert client.query(url).rb == body
        wait_for("the fallback to be counted", lambda: client.stats()["shm_fallbacks"] == 1)
        url, body = served(nginx, 900 * KIB)
        assert client.query(url).rb == body
        assert client.stats()["shm_fallbacks"] == 1
    settled(daemon)


def test_the_bounds_are_set_while_it_runs(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon()
    url, body = served(nginx, 2 * THRESHOLD)
    with Taker(daemon.socket) as wire:
        assert wire.call("set", ["shm_threshold", MIB])[1] is True
        assert wire.call("query", [url])[1]["rb"] == body
        assert wire.call("set", ["shm_threshold", THRESHOLD])[1] is True
        assert wire.call("set", ["shm_size", MIB])[1] is True
        os.close(wire.body(wire.call("query", [url])[1])[0])
        large, body = served(nginx, 2 * MIB)
        assert wire.call("query", [large])[1]["rb"] == body
        assert wire.call("set", ["memory_manager", "sys"])[0]["code"] == "bad_request"
    settled(daemon)


def test_shm_size_is_shared_by_bodies_on_their_way(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = halfway(start_origin, 1800 * KIB)
    daemon = start_daemon(shm_size=2 * MIB)
    with Taker(daemon.socket) as wire, daemon.client() as other:
        wire.send(*([0, msgid, "query", [origin.url]] for msgid in range(3)))
        wait_for("the third to find no room", lambda: other.stats()["shm_fallbacks"] == 1)
        origin.release.set()
        for reply in [wire.receive()[3] for _ in range(3)]:
            assert taken(wire, reply) == bytes(1800 * KIB)
    settled(daemon)


def test_a_body_announced_as_longer_than_any_may_be_with_sys(
    start_daemon: StartDaemon, start_origin: StartOrigin
) -> None:
    """The front takes no descriptors then: one would end the worker's connection, and all its transfers."""

    def lie(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + bytes(100_000))
        sock.shutdown(socket.SHUT_WR)

    with start_daemon(memory_manager="sys").client() as client:
        reply = client.query(start_origin(lie).url)
        assert (reply.code, len(reply.rb)) == (18, 100_000)
        assert client.stats()["retried"] == 0


def test_max_body_in_shared_memory(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(max_body=MIB)
    with daemon.client() as client:
        url, body = served(nginx, MIB)
        assert client.query(url).rb == body
        reply = client.query(served(nginx, MIB + 7)[0])
        assert (reply.ok, reply.code, reply.err) == (0, 63, f"body longer than max_body ({MIB} bytes)")
        assert client.query(url).rb == body
    settled(daemon)


def test_a_caller_who_takes_descriptors_and_does_not_read(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """What lies unread at his socket is bounded: past it he is sent bytes, and then cut off."""
    daemon = start_daemon(max_client_buffer=MIB)
    url, _ = served(nginx, 4 * THRESHOLD)
    with Taker(daemon.socket) as wire:
        wire.send(*([0, msgid, "query", [url]] for msgid in range(60)))
        wait_for("him to be cut off", lambda: "does not read" in daemon.log)
        while wire.receive() is not None:
            continue
        assert 1 <= len(wire.descriptors) <= MIB // (4 * THRESHOLD)
    settled(daemon)


def test_a_caller_who_sends_descriptors(daemon: Daemon) -> None:
    front = daemon.pid("front")
    with Wire(daemon.socket) as wire, open("/dev/null", "rb") as file:
        assert wire.call("ping", [])[0] is None
        before = len(os.listdir(f"/proc/{front}/fd"))
        packed = b"\x94\x00\x07\xa4ping\x90"
        for _ in range(20):
            socket.send_fds(wire.sock, [packed], [file.fileno()] * 50)
            assert wire.receive()[1] == 7
        assert len(os.listdir(f"/proc/{front}/fd")) == before


# -- none is kept


@pytest.mark.parametrize("loop", ["pyuv", "uvloop"])
def test_nothing_is_kept_after_load(start_daemon: StartDaemon, nginx: Nginx, loop: str) -> None:
    daemon = start_daemon(loop=loop)
    url, body = served(nginx, 3 * THRESHOLD)
    for descriptors in (True, False):
        with Client(daemon.socket, descriptors=descriptors) as client:
            for _ in range(3):
                assert all(reply.rb == body for reply in client.query_many([url] * 50))
    assert settled(daemon)["shm_fallbacks"] == 0


@pytest.mark.parametrize("kind", [Taker, Wire])
def test_a_caller_vanishes(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx, kind: Any) -> None:
    """With bodies unread, with some on their way, and with unsuspended queries whose replies nobody takes."""
    daemon = start_daemon(shm_size=8 * MIB)
    origin = halfway(start_origin, MIB)
    url, body = served(nginx, MIB)
    for _ in range(3):
        with kind(daemon.socket) as wire:
            wire.send(*([0, msgid, "query", [url]] for msgid in range(8)))
            wire.send(*([0, 100 + msgid, "query", [origin.url]] for msgid in range(3)))
            wire.send(*([2, "send", [url]] for _ in range(3)))
            wait_for("replies", lambda: daemon.stats()["replies"] > 0)
        settled(daemon)
    fallbacks = daemon.stats()["shm_fallbacks"]
    with daemon.client() as client:
        assert all(reply.rb == body for reply in client.query_many([url] * 20, in_flight=4))
        assert client.stats()["shm_fallbacks"] == fallbacks  # all room is there again


def test_cancel_and_timeout_in_the_middle_of_a_body(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon = start_daemon(shm_size=4 * MIB)
    origin = halfway(start_origin, 2 * MIB)
    with daemon.client() as client:
        for _ in range(8):
            id_ = client.send(origin.url)
            wait_for("some of a body", lambda: memfds(daemon.pid("worker 1")) > 0)
            assert client.cancel(id_)
            settled(daemon)
            reply = client.query(origin.url, timeout=150)
            assert (reply.code, reply.rs) == (28, 200)
            assert reply.rb == bytes(MIB)  # what had come by then
            del reply
        assert settled(daemon)["shm_fallbacks"] == 0


def test_a_worker_is_killed_in_the_middle(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    daemon = start_daemon()
    origin = halfway(start_origin, 2 * MIB)
    url, body = served(nginx, MIB)
    with Taker(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 60_000, "method": "POST"}]])
        worker = daemon.pid("worker 1")
        wait_for("some of a body", lambda: memfds(worker) > 0)
        os.kill(worker, signal.SIGKILL)
        reply = wire.receive()[3]
        assert (reply["code"], reply["rb"]) == (56, b"")
        fd, size = wire.body(wire.call("query", [url])[1])
        assert os.pread(fd, size, 0) == body
        os.close(fd)
    settled(daemon)


def test_the_front_is_killed_in_the_middle(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    """The worker lets go of all, and has all its room again."""
    daemon = start_daemon(shm_size=2 * MIB)
    origin = halfway(start_origin, 2 * MIB)
    url, body = served(nginx, 1900 * KIB)
    with Taker(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 60_000}]])
        wait_for("some of a body", lambda: memfds(daemon.pid("worker 1")) > 0)
        front = daemon.pid("front")
        os.kill(front, signal.SIGKILL)
        assert wire.receive() is None
    wait_for("another front", lambda: daemon.pid("front") != front)
    with daemon.client() as client:
        for _ in range(3):
            assert client.query(url).rb == body
        assert client.stats()["shm_fallbacks"] == 0
    settled(daemon)


def test_stop_with_bodies_unread(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """What is on its way to a caller who reads late comes whole."""
    daemon = start_daemon()
    url, body = served(nginx, 5 * MIB)
    with Wire(daemon.socket) as wire:
        wire.send(*([0, msgid, "query", [url]] for msgid in range(4)))
        wait_for("all replies", lambda: daemon.stats()["replies"] == 4)
        daemon.process.terminate()
        wait_for("the stop to begin", lambda: "stopping" in daemon.log)
        assert [wire.receive()[3]["rb"] == body for _ in range(4)] == [True] * 4
        assert wire.receive() is None
    assert daemon.terminate() == 0
