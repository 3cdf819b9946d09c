"""Callers and origins with bad intentions: what they do to themselves is theirs, their neighbours notice nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import psutil
import pytest

from hacd import Client
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import REPLY, Nginx, read_head
from tests.support.waiting import wait_for
from tests.support.wire import Wire

MIB = 1024 * 1024


@pytest.fixture
def neighbour(daemon: Daemon, nginx: Nginx) -> Iterator[Client]:
    """A caller with a query before and after; neither front nor worker may have been replaced in between."""
    pids = [daemon.pid("front"), daemon.pid("worker 1")]
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1
        yield client
        assert client.query(nginx.url).ok == 1
    assert [daemon.pid("front"), daemon.pid("worker 1")] == pids


# -- callers

DEEP = b"\x91" * 1000 + b"\xc0"
URL = msgpack.packb("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "frame",
    [
        b"\x94\x00\x01" + DEEP + b"\x90",
        b"\x94\x00" + DEEP + b"\xa5query\x90",
        b"\x94\x00\x01\xa5query" + DEEP,
        b"\x94\x00\x01\xa5query\x91" + DEEP,
        *(
            b"\x94\x00\x01\xa5query\x92" + URL + b"\x81" + msgpack.packb(name) + DEEP
            for name in ("route", "suspend", "method", "timeout", "hdr", "body", "no_such")
        ),
        b"\x93\x02" + DEEP + b"\x90",
        b"\x94\x00\x01\xa6cancel" + DEEP,
    ],
    ids=lambda frame: str(frame[:24]),
)
def test_nested_values_where_plain_ones_belong(daemon: Daemon, neighbour: Client, frame: bytes) -> None:
    """To show such a value in an error takes more depth than Python has."""
    with Wire(daemon.socket) as wire:
        wire.raw(frame + msgpack.packb([0, 2, "ping", []]))
        assert wire.receive() is not None


def test_large_values_in_errors_are_cut_short(daemon: Daemon, neighbour: Client) -> None:
    with Wire(daemon.socket) as wire:
        error, _ = wire.call("x" * MIB, [])
        assert len(error["message"]) < 300
        error, _ = wire.call("query", ["http://x/", {"timeout": "9" * MIB}])
        assert len(error["message"]) < 300


def test_memory_of_an_array_that_is_announced_only(daemon: Daemon, neighbour: Client) -> None:
    before = psutil.Process(daemon.pid("front")).memory_info().rss
    wires = [Wire(daemon.socket) for _ in range(20)]
    for wire in wires:
        wire.raw(b"\xdc\x02\x00" * 1000)  # 512 items, a thousand levels deep
    neighbour.ping()
    assert psutil.Process(daemon.pid("front")).memory_info().rss - before < 120 * MIB
    for wire in wires:
        wire.sock.close()


def test_many_cheap_calls_do_not_hold_the_others(daemon: Daemon, neighbour: Client) -> None:
    """All are answered, and another caller's turn comes in between: he is answered before they are through."""
    with Wire(daemon.socket) as wire:
        frame = b"".join(msgpack.packb([0, msgid, "stats", []]) for msgid in range(5000))
        thread = threading.Thread(target=wire.raw, args=(frame,))
        thread.start()
        assert wire.receive()[1] == 0
        neighbour.ping()
        assert [wire.receive()[1] for _ in range(4999)] == list(range(1, 5000))
        thread.join()


@pytest.mark.parametrize("loop", ["pyuv", "uvloop"])
def test_expensive_calls_do_not_hold_the_others(
    start_daemon: StartDaemon, start_origin: StartOrigin, loop: str
) -> None:
    """64 KiB of them, unread: the others get their turn, and what is unread is bounded."""
    pytest.importorskip(loop)
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(loop=loop, max_client_buffer=4 * MIB)
    front = psutil.Process(daemon.pid("front"))
    with Wire(daemon.socket) as busy, Wire(daemon.socket) as attacker, daemon.client() as neighbour:
        busy.send(*([0, n, "query", [origin.url, {"timeout": 60_000}]] for n in range(1000)))
        wait_for("all in flight", lambda: neighbour.stats()["in_flight"] == 1000)
        attacker.raw(b"".join(msgpack.packb([0, n, "transactions", []]) for n in range(3000)) + b"\xc1")
        begin = time.monotonic()
        neighbour.ping()
        assert time.monotonic() - begin < 2
        wait_for("the attacker to be cut off", lambda: "does not read" in daemon.log)
    assert front.memory_info().rss < 200 * MIB


def test_calls_before_a_break_are_carried_out_however_many(daemon: Daemon, neighbour: Client) -> None:
    with Wire(daemon.socket) as wire:
        wire.raw(b"".join(msgpack.packb([0, msgid, "ping", []]) for msgid in range(900)) + b"\xc1")
        assert [wire.receive()[1] for _ in range(900)] == list(range(900))
        assert wire.receive()[2]["code"] == "bad_request"
        assert wire.receive() is None


def test_listing_is_bounded(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon()
    with Wire(daemon.socket) as wire, daemon.client() as other:
        url = origin.url + "/" + "x" * 1000
        wire.send(*([0, msgid, "query", [url, {"timeout": 60_000}]] for msgid in range(1100)))
        wait_for("all in flight", lambda: other.stats()["in_flight"] == 1100)
        rows = other.transactions()
        assert len(rows) == 1000
        assert {len(row["url"]) for row in rows} == {256}
        ages = [row["age_ms"] for row in rows]
        assert ages == sorted(ages, reverse=True)


def test_shapes_without_end(daemon: Daemon, neighbour: Client, start_origin: StartOrigin, nobody: str) -> None:
    """A handle is kept by method; more methods than handles are kept, while the first one is in use."""
    origin = start_origin(lambda _sock, _head: None)
    with Wire(daemon.socket) as wire:
        assert wire.call("query", [nobody, {"method": "FIRST"}])[1]["code"] == 7
        wire.send([0, 2, "query", [origin.url, {"method": "FIRST", "timeout": 60_000}]])
        wire.send(*([0, 10 + n, "query", [nobody, {"method": f"M{n}"}]] for n in range(700)))
        assert {wire.receive()[3]["code"] for _ in range(700)} == {7}


def test_bodies_are_let_go(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer_after_body)
    daemon = start_daemon(workers=1)
    worker = psutil.Process(daemon.pid("worker 1"))
    with daemon.client() as client:
        queries = [(origin.url, {"body": bytes(4 * MIB), "timeout": 20_000})] * 40
        assert {reply.ok for reply in client.query_many(queries, in_flight=40)} == {1}
    wait_for("the bodies to be let go", lambda: worker.memory_info().rss < 120 * MIB)


def answer_after_body(sock: socket.socket, head: bytes) -> None:
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    got = len(head.partition(b"\r\n\r\n")[2])
    while got < length:
        got += len(sock.recv(MIB))
    sock.sendall(REPLY)


def test_hosts_without_end_are_not_remembered(daemon: Daemon, neighbour: Client) -> None:
    with Wire(daemon.socket) as wire:
        error, _ = wire.call("query", ["http://" + "a" * 301 + "/"])
        assert "a host of 301 characters" in error["message"]


def test_garbage_on_the_workers_socket(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon()
    front = daemon.pid("front")
    for words in ([0, 1, "stats", []], [1, 2], 7, [0, "hello", 7], [0, "hello", {}], [0, "nonsense", 1], ["x", 1, b""]):
        with Wire(daemon.socket + ".workers") as wire:
            wire.send(words)
            assert wire.receive() is None
    with Wire(daemon.socket + ".workers") as wire:
        wire.raw(b"\xc1")
        assert wire.receive() is None
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1
    assert daemon.pid("front") == front


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE])
def test_signals_without_a_meaning(start_daemon: StartDaemon, nginx: Nginx, signum: int) -> None:
    daemon = start_daemon()
    pids = [daemon.process.pid, daemon.pid("front"), daemon.pid("worker 1")]
    for pid in pids:
        os.kill(pid, signum)
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1
    assert [daemon.process.pid, daemon.pid("front"), daemon.pid("worker 1")] == pids


# -- origins, and callers who use them against others


def test_body_that_an_origin_does_not_read_is_no_request(daemon: Daemon, start_origin: StartOrigin) -> None:
    """An origin that ignores a GET's body takes it for the next request: its reply would be the next caller's."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

    def script(sock: socket.socket, head: bytes) -> None:
        first, _, rest = head.partition(b"\r\n\r\n")
        requests = [first] + ([rest] if rest else [])
        for request in requests:
            path = request.split(b" ")[1]
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    origin = start_origin(script)
    with daemon.client() as attacker, daemon.client() as victim:
        for method in ("GET", "DELETE", "OPTIONS", "PURGE"):
            attacker.query(f"{origin.url}/a", method=method, body=smuggled)
            for number in range(3):
                path = f"/victim{number}"
                assert victim.query(origin.url + path).rb == path.encode()


def test_reply_that_nobody_asked_for_is_nobodys(daemon: Daemon, start_origin: StartOrigin) -> None:
    """An origin answers once more, later, on a connection that is kept."""

    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(REPLY)
        if len(origin.heads) == 1:
            origin.release.wait(10)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            sock.settimeout(10)
            read_head(sock)  # until it is dropped

    origin = start_origin(script)
    with daemon.client() as client:
        assert client.query(origin.url).rb == b"ok"
        origin.release.set()
        wait_for("the connection to be dropped", lambda: "that nobody asked for" in daemon.log)
        assert [client.query(origin.url).rb for _ in range(5)] == [b"ok"] * 5


def test_status_that_is_no_number_of_three_digits(daemon: Daemon, neighbour: Client, start_origin: StartOrigin) -> None:
    for status in (b"99999999999999999999999", b"9" * 5000, b"20", b"2000", b"-20", b"2 0", b"\xff\xff\xff"):
        origin = start_origin(lambda sock, _head, status=status: sock.sendall(b"HTTP/1.1 " + status + b" X\r\n\r\n"))  # type: ignore[misc]
        reply = neighbour.query(origin.url, timeout=300)
        assert (reply.rs, reply.ok) == (0, 1) or reply.ok == 0


def test_trailer_that_looks_like_a_status_line(neighbour: Client, start_origin: StartOrigin) -> None:
    body = b"2\r\nok\r\n0\r\nHTTP/1.1 500 Fake: x\r\nX-Trailer: y\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    origin = start_origin(lambda sock, _head: sock.sendall(head + body))
    reply = neighbour.query(origin.url)
    assert (reply.ok, reply.rs, reply.rb) == (1, 200, b"ok")
    assert reply.head.startswith(head)


def test_body_in_tiny_chunks_takes_no_more_memory_than_it_is_long(
    start_daemon: StartDaemon, start_origin: StartOrigin
) -> None:
    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            sock.sendall(b"2\r\nab\r\n" * 50_000)
        sock.sendall(b"0\r\n\r\n")

    origin = start_origin(script)
    daemon = start_daemon()
    worker = psutil.Process(daemon.pid("worker 1"))
    with daemon.client() as client:
        assert client.query(origin.url, timeout=60_000).rb == b"ab" * 1_000_000
    assert worker.memory_info().rss < 80 * MIB


def test_error_text_is_utf8(daemon: Daemon) -> None:
    """libcurl cuts its texts at 256 bytes, be that in the middle of a character."""
    with Wire(daemon.socket) as wire:
        for length in range(40, 64):
            label = "ü" * length
            reply: Any = wire.call("query", [f"http://{label}.{label}.invalid/", {"timeout": 5000}])[1]
            assert reply["ok"] == 0
            reply["err"].encode()  # raises for half a character


def test_a_caller_who_leaves_thousands_holds_nobody(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    """They are ended some at each turn; a neighbour's calls come in between."""
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(max_host_connections=10)
    with Wire(daemon.socket) as leaves:
        leaves.send(*([0, n, "query", [origin.url, {"timeout": 60_000}]] for n in range(20_000)))
        wait_for("all of them", lambda: daemon.stats()["in_flight"] == 20_000)
    seen = set()
    with daemon.client() as neighbour:
        while neighbour.stats()["suspended"]:
            seen.add(neighbour.stats()["suspended"])
            assert neighbour.query(nginx.url).ok == 1
    assert len(seen) > 3
