"""Every bound in the settings, hit."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest

from hacd import Refused
from hacd.front.doors import RESERVED
from tests.conftest import StartDaemon, StartOrigin
from tests.support.origins import Nginx, answer
from tests.support.waiting import wait_for
from tests.support.wire import Wire


def test_max_transactions(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(max_transactions=3)
    with Wire(daemon.socket) as wire, daemon.client() as other:
        wire.send(*([0, msgid, "query", [origin.url]] for msgid in range(3)))
        wait_for("three in flight", lambda: other.stats()["in_flight"] == 3)
        with pytest.raises(Refused, match=r"busy: max_transactions \(3\)"):
            other.query(origin.url)
        assert other.stats()["busy"] == 1
        wire.send([2, "cancel", [0]])
        wait_for("a place", lambda: other.stats()["in_flight"] == 2)
        assert other.send(origin.url, timeout=50)


def test_max_client_in_flight(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(max_client_in_flight=2)
    with Wire(daemon.socket) as wire, daemon.client() as other:
        wire.send(*([0, msgid, "query", [origin.url]] for msgid in range(3)))
        _, msgid, error, _ = wire.receive()
        assert (msgid, error["code"]) == (2, "busy")
        assert "max_client_in_flight" in error["message"]
        assert other.query(nginx.url).ok == 1  # it is one connection's bound


def test_max_clients(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Root and the daemon's user have some in reserve, which `test_shares.py` tells of."""
    daemon = start_daemon(max_clients=2)
    with Wire(daemon.socket) as first, Wire(daemon.socket) as second, ExitStack() as reserve:
        first.call("ping", [])
        second.call("ping", [])
        with daemon.client() as client, pytest.raises(Refused, match="busy: max_clients"):
            client.query(nginx.url)
        for _ in range(RESERVED):
            reserve.enter_context(Wire(daemon.socket)).call("ping", [])
        with Wire(daemon.socket) as third:
            _, msgid, error, _ = third.receive()
            assert (msgid, error["code"]) == (None, "busy")
            assert "max_clients (2)" in error["message"]
            assert third.receive() is None
        with daemon.client() as client, pytest.raises(Refused, match="busy: max_clients"):
            client.ping()
        assert first.call("query", [nginx.url], 2)[1]["ok"] == 1
    wait_for("a place", lambda: _welcome(daemon.socket))


def _welcome(path: str) -> bool:
    with Wire(path) as wire:
        try:
            wire.send([0, 1, "ping", []])
            message = wire.receive()
        except BrokenPipeError:
            return False
        return message is not None and message[1] == 1


def test_max_client_buffer(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """A caller who does not read is cut off; the others notice nothing."""
    (nginx.files / "half-a-mib").write_bytes(bytes(512 * 1024))
    daemon = start_daemon(max_client_buffer=1024 * 1024)
    with Wire(daemon.socket) as wire, daemon.client() as other:
        wire.send(*([0, msgid, "query", [f"{nginx.url}/file/half-a-mib"]] for msgid in range(20)))
        wait_for("the caller to be cut off", lambda: "does not read" in daemon.log)
        assert other.query(nginx.url).ok == 1
        wait_for("its queries to have ended", lambda: other.stats()["in_flight"] == 0)
        assert other.stats()["clients"] == 1


def test_max_frame_is_exact(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    daemon = start_daemon(max_frame=65536)
    with daemon.client() as client:
        room = 65536 - 200
        assert client.query(origin.url, body=bytes(room)).ok == 1
        with pytest.raises(Refused, match="too_large: frame longer than max_frame"):
            client.query(origin.url, body=bytes(65536))
        assert client.query(origin.url).ok == 1  # over a new connection


@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
def test_max_body(start_daemon: StartDaemon, start_origin: StartOrigin, framing: str) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        body = bytes(1000 if b"/fits" in head else 1001)
        if framing == "length":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        elif framing == "chunked":
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            )
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
            sock.close()

    origin = start_origin(script)
    with start_daemon(max_body=1000).client() as client:
        assert len(client.query(f"{origin.url}/fits").rb) == 1000
        reply = client.query(f"{origin.url}/over")
        assert (reply.ok, reply.code, reply.rs) == (0, 63, 200)
        assert reply.err == "body longer than max_body (1000 bytes)"
        assert len(client.query(f"{origin.url}/fits").rb) == 1000


def test_endless_headers_end(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while not origin.release.is_set():
            sock.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    origin = start_origin(script)
    with start_daemon().client() as client:
        reply = client.query(origin.url)
        assert (reply.ok, reply.code in (56, 100)) == (0, True)  # by the version of libcurl
        assert "header" in (reply.err or "")


def test_max_header(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        size = int(head.split(b" ")[1][1:])
        begin, end = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ", b"\r\n\r\n"
        sock.sendall(begin + b"x" * (size - len(begin) - len(end)) + end + b"ok")

    origin = start_origin(script)
    with start_daemon(max_header=1000).client() as client:
        reply = client.query(f"{origin.url}/1000")
        assert (reply.ok, len(reply.head)) == (1, 1000)
        reply = client.query(f"{origin.url}/1001")
        assert (reply.ok, reply.code, reply.head, reply.rb) == (0, 100, b"", b"")
        assert reply.err == "header longer than max_header (1000 bytes)"
        assert client.query(f"{origin.url}/1000").ok == 1


def test_drain_timeout(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """What does not end in time ends with an error, and not with silence."""
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(drain_timeout=200)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 60_000}]])
        wait_for("the query to be in flight", lambda: origin.heads)
        begin = time.monotonic()
        daemon.process.terminate()
        _, msgid, error, reply = wire.receive()
        assert (msgid, error, reply["code"], reply["err"]) == (1, None, 42, "the daemon is stopping")
        assert time.monotonic() - begin >= 0.2
        assert wire.receive() is None
    assert daemon.terminate() == 0


def test_hash_size_is_rounded_down_and_more_transactions_than_slots_work(
    start_daemon: StartDaemon, start_origin: StartOrigin
) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(hash_size=7)
    assert "hash_size 7 is no power of two: rounded down to 4" in daemon.log
    with daemon.client() as client:
        replies = list(client.query_many([(origin.url, {"timeout": 100})] * 100, in_flight=100))
    assert [reply.code for reply in replies] == [28] * 100
    assert len({reply.id for reply in replies}) == 100
    assert daemon.stats()["in_flight"] == 0
