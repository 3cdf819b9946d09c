"""The way of a query, through a real daemon to real origins and back."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time

import pytest

from hacd import Client, Refused
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import REPLY, Httpbin, Nginx, answer
from tests.support.waiting import wait_for


def test_get(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/get?r_uri=alice&f_uri=bob", "HTTP_REPLY")
    assert (reply.ok, reply.code, reply.err, reply.rs, reply.rr) == (1, 0, None, 200, "OK")
    assert json.loads(reply.rb)["args"] == {"r_uri": "alice", "f_uri": "bob"}
    assert reply.route == "HTTP_REPLY"
    assert reply.url == f"{httpbin.url}/get?r_uri=alice&f_uri=bob"
    assert reply.ip == "127.0.0.1"
    assert reply.http_version == "1.1"
    assert reply.hdr("content-type") == "application/json"
    assert reply.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.head.endswith(b"\r\n\r\n")
    assert reply.mb == reply.head + reply.rb
    assert (reply.bs, reply.ml) == (len(reply.rb), len(reply.mb))


def test_post_when_there_is_a_body(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/anything", body=b'{"r_uri": "alice"}')
    seen = json.loads(reply.rb)
    assert (seen["method"], seen["form"]) == ("POST", {'{"r_uri": "alice"}': ""})


def test_text_body_is_utf8(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/anything", body="grün", hdr=["Content-Type: text/plain"])
    assert json.loads(reply.rb)["data"] == "grün"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_method(client: Client, httpbin: Httpbin, method: str) -> None:
    assert json.loads(client.query(f"{httpbin.url}/anything", method=method).rb)["method"] == method


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_method_with_body(client: Client, httpbin: Httpbin, method: str) -> None:
    headers = ["Content-Type: text/plain"]
    seen = json.loads(client.query(f"{httpbin.url}/anything", method=method, body="x", hdr=headers).rb)
    assert (seen["method"], seen["data"]) == (method, "x")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_method_without_body_says_length_zero(client: Client, start_origin: StartOrigin, method: str) -> None:
    origin = start_origin(answer)
    assert client.query(origin.url, method=method).rb == b"ok"
    assert origin.heads[0].startswith(f"{method} / HTTP/1.1\r\n".encode())
    assert b"Content-Length: 0\r\n" in origin.heads[0]


def test_any_token_is_a_method(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    assert client.query(origin.url, method="PURGE").ok == 1
    assert origin.heads[0].startswith(b"PURGE / ")


def test_head_gets_no_body_and_does_not_hang(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/bytes/1000", method="HEAD", timeout=3000)
    assert (reply.rs, reply.rb, reply.hdr("Content-Length")) == (200, b"", "1000")


def test_options_method(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/get", method="OPTIONS")
    assert "GET" in (reply.hdr("Allow") or "")


def test_headers(client: Client, httpbin: Httpbin) -> None:
    headers = ["X-Sip-Call-Id: 1@host", "X-Foo: bar", "X-Empty;", "Accept:"]
    seen = json.loads(client.query(f"{httpbin.url}/anything", hdr=headers).rb)["headers"]
    assert (seen["X-Sip-Call-Id"], seen["X-Foo"], seen.get("X-Empty")) == ("1@host", "bar", "")
    assert "Accept" not in seen


def test_one_query_sets_nothing_for_the_next(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    client.query(origin.url, hdr=["X-Foo: bar"], body=b"x", method="PUT")
    client.query(origin.url)
    client.query(origin.url, body=b"y")
    client.query(origin.url, method="DELETE", hdr=["X-Bar: 1"])
    client.query(origin.url, body=b"z", hdr=["X-Baz: 1"])
    client.query(origin.url)
    lines = [head.split(b"\r\n")[0].split(b" ")[0] for head in origin.heads]
    assert lines == [b"PUT", b"GET", b"POST", b"DELETE", b"POST", b"GET"]
    assert [b"X-Foo" in head for head in origin.heads] == [True, False, False, False, False, False]
    assert [b"X-Bar" in head for head in origin.heads] == [False, False, False, True, False, False]
    assert [b"X-Baz" in head for head in origin.heads] == [False, False, False, False, True, False]
    assert [b"Content-Length" in head for head in origin.heads] == [True, False, True, False, True, False]


def test_body_is_bytes_with_nul(client: Client, nginx: Nginx) -> None:
    data = bytes(range(256)) * 64
    (nginx.files / "every-byte").write_bytes(data)
    assert client.query(f"{nginx.url}/file/every-byte").rb == data


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 1_000_000, 8_000_000])
def test_body_sizes_both_ways(client: Client, httpbin: Httpbin, nginx: Nginx, size: int) -> None:
    data = b"\x00\xff" * (size // 2) + b"a" * (size % 2)
    (nginx.files / f"size-{size}").write_bytes(data)
    assert client.query(f"{nginx.url}/file/size-{size}").rb == data
    seen = client.query(f"{httpbin.url}/anything", body=data, hdr=["Content-Type: text/plain"], timeout=20_000)
    assert f'"Content-Length": "{size}"'.encode() in seen.rb


def test_status_of_any_kind_is_ok(client: Client, httpbin: Httpbin) -> None:
    for status in (204, 302, 404, 503):
        reply = client.query(f"{httpbin.url}/status/{status}")
        assert (reply.ok, reply.rs) == (1, status)


def test_redirect_is_not_followed(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/redirect/1")
    assert (reply.rs, reply.hdr("Location")) == (302, "/get")


def test_interim_reply_is_not_the_head(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda sock, _head: sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + REPLY))
    reply = client.query(origin.url)
    assert (reply.rs, reply.hdr("Link"), reply.head) == (200, None, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")


def test_reason_phrase_and_repeated_headers(client: Client, start_origin: StartOrigin) -> None:
    head = b"HTTP/1.1 299 Odd but  true\r\nVia: a\r\nVia: b\r\nX-Fold: one\r\n two\r\nContent-Length: 0\r\n\r\n"
    origin = start_origin(lambda sock, _head: sock.sendall(head))
    reply = client.query(origin.url)
    assert (reply.rs, reply.rr) == (299, "Odd but  true")
    assert [reply.hdr("via", n) for n in (0, 1, 2, -1, -3)] == ["a", "b", None, "b", None]


def test_many_status_lines_do_not_mix_up(client: Client, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        number = head.split(b" ")[1][1:]
        sock.sendall(b"HTTP/1.1 200 Number " + number + b"\r\nContent-Length: 0\r\n\r\n")

    origin = start_origin(script)
    for number in range(300):
        assert client.query(f"{origin.url}/{number}").rr == f"Number {number}"


def test_refused(client: Client, nobody: str) -> None:
    reply = client.query(nobody, "R", xdata="mine")
    assert (reply.ok, reply.code, reply.rs, reply.rb, reply.route, reply.xdata) == (0, 7, 0, b"", "R", "mine")
    assert reply.err is not None
    assert "127.0.0.1" in reply.err


def test_no_such_host(client: Client) -> None:
    reply = client.query("http://no-such-host.invalid/", timeout=20_000)
    assert (reply.ok, reply.code) == (0, 6)


def test_timeout_is_of_the_whole(client: Client, start_origin: StartOrigin) -> None:
    """The C module's timeout is one of inactivity: an origin that drips is never done."""

    def drip(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not origin.release.wait(0.01):
            sock.sendall(b".")

    origin = start_origin(drip)
    begin = time.monotonic()
    reply = client.query(origin.url, "R", timeout=300)
    took = time.monotonic() - begin
    assert (reply.ok, reply.code, reply.route) == (0, 28, "R")
    assert 0.3 <= took < 3
    assert reply.time["total"] >= 290_000
    assert reply.err is not None
    assert re.search(
        r"\b(2[5-9]\d|3\d\d) (ms|milliseconds)", reply.err
    )  # the front's words, or curl's of what was left


def test_default_timeout(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(connection_timeout=150)
    with daemon.client() as client:
        assert client.query(origin.url).code == 28


def test_reset_in_mid_reply(client: Client, start_origin: StartOrigin) -> None:
    def reset(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        sock.close()

    reply = client.query(start_origin(reset).url)
    assert reply.ok == 0
    assert reply.code in (18, 56)


def test_closed_at_once(client: Client, start_origin: StartOrigin) -> None:
    reply = client.query(start_origin(lambda sock, _head: sock.close()).url)
    assert (reply.ok, reply.code) == (0, 52)


def test_bad_framing(client: Client, start_origin: StartOrigin) -> None:
    bad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nno chunk\r\n"
    reply = client.query(start_origin(lambda sock, _head: sock.sendall(bad)).url)
    assert (reply.ok, reply.code) == (0, 56)


def test_no_http_at_all(client: Client, start_origin: StartOrigin) -> None:
    reply = client.query(start_origin(lambda sock, _head: sock.sendall(b"SSH-2.0-OpenSSH\r\n")).url)
    assert reply.ok == 0


def test_times_are_in_order(client: Client, httpbin: Httpbin) -> None:
    time_ = client.query(f"{httpbin.url}/delay/0.2").time
    assert sorted(time_) == sorted(
        ["total", "lookup", "connect", "appconnect", "pretransfer", "starttransfer", "redirect", "queue"]
    )
    assert time_["total"] >= time_["starttransfer"] >= 200_000
    assert time_["starttransfer"] >= time_["pretransfer"] >= time_["connect"] >= time_["lookup"] >= 0
    assert time_["queue"] >= 0


@pytest.mark.parametrize("xdata", [None, "text", b"\x00bytes", 7, -1.5, True, ["a", {"b": [1]}], {"k": "v"}])
def test_xdata_comes_back(client: Client, nginx: Nginx, xdata: object) -> None:
    assert client.query(nginx.url, xdata=xdata).xdata == xdata


def test_url_in_utf8(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    assert client.query(f"{origin.url}/grün").ok == 1
    assert origin.heads[0].startswith(b"GET /gr%C3%BCn ")


def test_user_agent(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    client.query(origin.url)
    assert b"User-Agent: hacd/" in origin.heads[0]


def test_proxy_of_the_environment_is_not_used(
    start_daemon: StartDaemon, nginx: Nginx, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", nobody)
    with start_daemon().client() as client:
        assert client.query(nginx.url).ok == 1


def test_responses_come_in_the_order_of_their_ends(daemon: Daemon, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        if b"/slow" in head:
            origin.release.wait(10)
        sock.sendall(REPLY)

    origin = start_origin(script)
    with daemon.client() as client:
        replies = client.query_many([(f"{origin.url}/slow", "S"), (f"{origin.url}/fast", "F")])
        assert next(replies).route == "F"
        origin.release.set()
        assert next(replies).route == "S"


def test_connections_are_kept(client: Client, nginx: Nginx) -> None:
    connections = {client.query(f"{nginx.url}/connection").rb.split()[0] for _ in range(20)}
    assert len(connections) == 1


def test_origin_that_keeps_no_connection(client: Client, nginx: Nginx) -> None:
    """Each query has a socket of its own, with a descriptor that the one before has had."""
    for _ in range(50):
        assert client.query(f"{nginx.url}/short/").rb == b"closed"


def test_descriptors_that_are_reused_are_watched(daemon: Daemon, nginx: Nginx, start_origin: StartOrigin) -> None:
    """Kept, closed and new connections in turn: each descriptor's watch must be of the socket it now is.

    The worker must live through it (libuv ends a process that watches a closed descriptor), and
    nothing may time out. That curl gives up on connections which die under it is its right.
    """

    def close_after(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(REPLY)
        sock.close()  # although the reply did not say so

    origin = start_origin(close_after)
    urls = [f"{nginx.url}/connection", origin.url, f"{nginx.url}/short/", origin.url] * 100
    with daemon.client() as client:
        replies = list(client.query_many(urls, 7))
    assert {reply.code for reply in replies} <= {0, 52, 55, 56}
    assert [reply for reply in replies if reply.err == "worker lost"] == []
    assert [reply.ok for reply in replies if not reply.url.startswith(origin.url)] == [1] * 200
    assert "lost" not in daemon.log


def test_second_socket_of_a_transfer(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """Happy Eyeballs: the name's first address hangs, so libcurl has a second socket beside it; both are watched."""
    origin = start_origin(answer)
    with contextlib.ExitStack() as stack:
        try:
            hangs = stack.enter_context(socket.create_server(("::1", origin.port), family=socket.AF_INET6, backlog=0))
        except OSError:
            pytest.skip("no IPv6 here")
        for _ in range(3):  # its queue is full: who dials now is not answered
            full = stack.enter_context(socket.socket(socket.AF_INET6))
            full.setblocking(False)
            full.connect_ex(hangs.getsockname())
        with start_daemon().client() as client:
            replies = list(client.query_many([f"http://localhost:{origin.port}/"] * 5, in_flight=5))
    assert {(reply.ok, reply.ip) for reply in replies} == {(1, "127.0.0.1")}
    assert max(reply.time["connect"] for reply in replies) > 150_000  # it gave the first one 200 ms


def test_thousand_at_once(daemon: Daemon, nginx: Nginx) -> None:
    with daemon.client() as client:
        replies = list(client.query_many([nginx.url] * 1000, in_flight=1000))
    assert sorted(reply.index for reply in replies if reply.index is not None) == list(range(1000))
    assert {reply.rb for reply in replies} == {b"01234567890123456789012345678901234567890123456789012"}
    assert len({reply.id for reply in replies}) == 1000


def test_statistics_have_the_manuals_meaning(
    start_daemon: StartDaemon, nginx: Nginx, nobody: str, start_origin: StartOrigin
) -> None:
    hangs = start_origin(lambda _sock, _head: None)
    daemon = start_daemon()
    with daemon.client() as client:
        client.query(nginx.url)
        client.query(f"{nginx.url}/file/none")  # 404 is a reply
        client.query(nobody)
        client.query(hangs.url, timeout=50)
        with pytest.raises(Refused):
            client.query("ftp://x/")  # not accepted, so no request
        stats = client.stats()
    counts = {name: stats[name] for name in ("requests", "replies", "errors", "timeouts", "in_flight", "refused")}
    assert counts == {"requests": 4, "replies": 2, "errors": 1, "timeouts": 1, "in_flight": 0, "refused": 1}
    (worker,) = stats["workers"]
    del counts["refused"]
    assert worker == {"worker": 1, "pid": daemon.pid("worker 1"), "state": "running", "restarts": 0, **counts}


def test_each_worker_has_its_figures(start_daemon: StartDaemon, nginx: Nginx, nobody: str) -> None:
    daemon = start_daemon(workers=2)
    with daemon.client() as client:
        list(client.query_many([nginx.url] * 200 + [nobody] * 3, in_flight=200))
        stats = client.stats()
    for name, total in (("requests", 203), ("replies", 200), ("errors", 3), ("timeouts", 0)):
        assert sum(row[name] for row in stats["workers"]) == stats[name] == total
    assert all(row["requests"] for row in stats["workers"])


def test_the_balance_holds_at_every_moment(daemon: Daemon, nginx: Nginx) -> None:
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            daemon.balance()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with daemon.client() as client:
        replies = list(client.query_many([nginx.url] * 3000, in_flight=50))
    done.set()
    watcher.join()
    assert len(replies) == 3000


def test_late_outcome_is_counted_and_dropped(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """A transfer that ends after its transaction was resumed at the deadline resumes nobody."""
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(workers=1)
    with daemon.client() as client:
        replies = list(client.query_many([(origin.url, {"timeout": 40 + n % 7}) for n in range(200)], 200))
        assert [reply.code for reply in replies] == [28] * 200
        assert client.stats()["timeouts"] == 200
        wait_for("the worker to have called them off", lambda: client.stats()["workers"][0]["in_flight"] == 0)
