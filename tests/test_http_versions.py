"""Versions of HTTP, against servers that speak them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pycurl
import pytest

from hacd import Client, Refused
from tests.conftest import StartDaemon
from tests.support.http3 import Hypercorn
from tests.support.origins import Nginx
from tests.support.tls import TlsNginx


def test_http_version_over_tls(client: Client, tls: TlsNginx) -> None:
    trust = str(tls.ca_path)
    assert client.query(tls.https(), tls_ca_path=trust, http_version=0).http_version == "2"  # libcurl's choice
    assert client.query(tls.https(), tls_ca_path=trust, http_version=1).http_version == "2"
    reply = client.query(tls.https(), tls_ca_path=trust, http_version=2)
    assert (reply.http_version, reply.rs, reply.rr) == ("2", 200, "")


def test_http_2_by_prior_knowledge(client: Client, tls: TlsNginx) -> None:
    reply = client.query(f"http://127.0.0.1:{tls.ports['h2c']}/", http_version=2)
    assert (reply.http_version, reply.rb) == ("2", b"HTTP/2.0")


def test_many_at_once_over_one_connection(start_daemon: StartDaemon, tls: TlsNginx) -> None:
    """Streams of HTTP/2, each with its own reply."""
    trust = str(tls.ca_path)
    with start_daemon().client() as client:
        first = client.query(f"{tls.https()}connection?n=first", tls_ca_path=trust)
        connection = first.rb.split()[0]
        queries = [(f"{tls.https()}connection?n={number}", {"tls_ca_path": trust}) for number in range(200)]
        replies = list(client.query_many(queries, in_flight=50))
    assert {(reply.ok, reply.http_version) for reply in replies} == {(1, "2")}
    assert sorted(int(reply.rb.split()[2]) for reply in replies) == list(range(200))
    assert all(reply.url.endswith(f"?n={int(reply.rb.split()[2])}") for reply in replies)
    assert {reply.rb.split()[0] for reply in replies} == {connection}


# -- HTTP/3

HAS_HTTP_3 = bool(pycurl.version_info()[4] & getattr(pycurl, "VERSION_HTTP3", 0))
http_3 = pytest.mark.skipif(not HAS_HTTP_3, reason="this libcurl has no HTTP/3")


@pytest.fixture(scope="module")
def hypercorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypercorn]:
    server = Hypercorn(tmp_path_factory.mktemp("hypercorn"))
    yield server
    server.close()


@http_3
def test_http_3(client: Client, hypercorn: Hypercorn) -> None:
    options: dict[str, Any] = {"tls_ca_path": str(hypercorn.ca_path), "http_version": 3}
    for _ in range(2):
        reply = client.query(f"{hypercorn.url}/a?b=c", **options)
        assert (reply.ok, reply.rs, reply.rr, reply.http_version) == (1, 200, "", "3")
        assert (reply.rb, reply.hdr("X-Foo")) == (b"3 GET /a b=c ", "bar")


@http_3
@pytest.mark.parametrize(("method", "said"), [(None, b"POST"), ("PUT", b"PUT")])
@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_http_3_with_a_body(client: Client, hypercorn: Hypercorn, method: str | None, said: bytes, size: int) -> None:
    options: dict[str, Any] = {"tls_ca_path": str(hypercorn.ca_path), "http_version": 3}
    reply = client.query(f"{hypercorn.url}/", body=b"\0" * size, method=method, **options)
    assert (reply.http_version, reply.rb) == ("3", b"3 " + said + b" /  " + b"\0" * size)


@http_3
def test_http_3_many_at_once(client: Client, hypercorn: Hypercorn) -> None:
    options = {"tls_ca_path": str(hypercorn.ca_path), "http_version": 3}
    replies = list(client.query_many([(f"{hypercorn.url}/{number}", options) for number in range(50)]))
    assert [reply.err for reply in replies if not reply.ok] == []
    assert sorted(reply.rb for reply in replies) == sorted(b"3 GET /%d  " % number for number in range(50))


@http_3
def test_http_3_trusts_as_tcp_does(client: Client, hypercorn: Hypercorn) -> None:
    assert client.query(hypercorn.url, http_version=3).code == 60
    assert client.query(hypercorn.url, http_version=3, tls_ca_path=str(hypercorn.ca_path)).ok == 1
    assert client.query(hypercorn.url, http_version=3).code == 60


@http_3
@pytest.mark.parametrize("silent", [False, True])
def test_http_3_where_only_tcp_is_spoken(start_daemon: StartDaemon, tls: TlsNginx, silent: bool) -> None:
    """libcurl falls back to TCP: at once where the host says that nobody is there, soon where nothing comes back."""
    with contextlib.ExitStack() as stack:
        if silent:
            deaf = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            deaf.bind(("127.0.0.1", tls.port))
        client = stack.enter_context(start_daemon().client())
        reply = client.query(tls.https(), tls_ca_path=str(tls.ca_path), http_version=3)
        assert (reply.ok, reply.rs, reply.http_version) == (1, 200, "2")


@http_3
@pytest.mark.parametrize(("scheme", "codes"), [("https", (7, 55)), ("http", (7,))])
def test_http_3_where_nobody_is(client: Client, nobody: str, scheme: str, codes: tuple[int, ...]) -> None:
    reply = client.query(nobody.replace("http", scheme, 1), http_version=3)
    assert reply.code in codes  # as the last of the two attempts failed: to send, or to connect
    assert (reply.err or "").startswith("Failed to connect to 127.0.0.1")


@http_3
def test_http_3_is_of_https_alone(client: Client, nginx: Nginx) -> None:
    reply = client.query(nginx.url, http_version=3)
    assert (reply.ok, reply.http_version) == (1, "1.1")


@pytest.mark.skipif(HAS_HTTP_3, reason="this libcurl has HTTP/3")
def test_http_3_is_refused_by_name(client: Client, nobody: str) -> None:
    with pytest.raises(Refused, match=r"http_version: 3 \(HTTP/3\) is wrong: this libcurl has no HTTP/3"):
        client.query(nobody, http_version=3)
