"""Redirects: followed when asked, never with a login to somebody else."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from hacd import Client
from tests.conftest import StartDaemon, StartOrigin
from tests.support.origins import REPLY, Httpbin, RawOrigin, answer
from tests.support.tls import TlsNginx

BASIC = 1

#: a login of each kind, none of which is for anybody but the host that was named
SECRETS: list[dict[str, Any]] = [
    {"username": "alice", "password": "secret", "authmethod": BASIC},
    {"hdr": ["Authorization: Bearer secret"]},
    {"hdr": ["Cookie: secret=1"]},
]


def test_redirects_are_followed_when_asked(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/redirect/3", follow_redirect=1)
    assert (reply.rs, reply.url) == (200, f"{httpbin.url}/get")
    assert reply.head.count(b"HTTP/1.1") == 1
    assert client.query(f"{httpbin.url}/redirect/3").rs == 302
    assert client.query(f"{httpbin.url}/redirect/3", follow_redirect=0).rs == 302


def test_redirects_of_the_daemon(start_daemon: StartDaemon, httpbin: Httpbin) -> None:
    with start_daemon(curl_follow_redirect=1).client() as client:
        assert client.query(f"{httpbin.url}/redirect/1").rs == 200
        assert client.query(f"{httpbin.url}/redirect/1", follow_redirect=0).rs == 302


def test_redirects_have_an_end(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/redirect/11", follow_redirect=1)
    assert (reply.ok, reply.code) == (0, 47)


@pytest.mark.parametrize(
    "location",
    [
        *("file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "dict://127.0.0.1/", "ws://127.0.0.1/"),
        *("FILE:///etc/passwd", "FtP://127.0.0.1/", "  file:///etc/passwd", "tftp://127.0.0.1/", "scp://127.0.0.1/x"),
    ],
)
@pytest.mark.parametrize("http_version", [0, 1, 3])
def test_redirect_to_another_scheme_is_not_followed(
    client: Client, start_origin: StartOrigin, location: str, http_version: int
) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    origin = start_origin(lambda sock, _head: sock.sendall(head))
    reply = client.query(origin.url, follow_redirect=1, http_version=http_version)
    assert (reply.ok, reply.code, reply.rb) == (0, 1, b"")


@pytest.fixture
def redirect(start_origin: StartOrigin) -> Callable[[str], RawOrigin]:
    """`redirect(location)`: an origin that sends everybody there."""

    def start(location: str) -> RawOrigin:
        head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        return start_origin(lambda sock, _head: sock.sendall(head))

    return start


Redirect = Callable[[str], RawOrigin]


@pytest.mark.parametrize("options", SECRETS)
def test_secrets_are_not_sent_to_another_port(
    client: Client, start_origin: StartOrigin, redirect: Redirect, options: dict[str, Any]
) -> None:
    other = start_origin(answer)
    origin = redirect(f"{other.url}/")
    assert client.query(origin.url, follow_redirect=1, **options).ok == 1
    (sent,), (passed_on,) = origin.heads, other.heads
    assert b"Authorization: " in sent or b"Cookie: " in sent
    assert b"Authorization" not in passed_on
    assert b"Cookie" not in passed_on


@pytest.mark.parametrize("options", SECRETS)
def test_secrets_are_not_sent_to_another_name(
    client: Client, start_origin: StartOrigin, redirect: Redirect, options: dict[str, Any]
) -> None:
    other = start_origin(answer)
    origin = redirect(f"http://localhost:{other.port}/")
    assert client.query(origin.url, follow_redirect=1, **options).ok == 1
    assert other.heads[0].startswith(b"GET / ")
    assert b"Authorization" not in other.heads[0]
    assert b"Cookie" not in other.heads[0]


@pytest.mark.parametrize("options", SECRETS)
def test_secrets_are_not_sent_from_https_to_http(
    client: Client, start_origin: StartOrigin, tls: TlsNginx, options: dict[str, Any]
) -> None:
    plain = start_origin(answer)
    url = f"{tls.https()}to?http://127.0.0.1:{plain.port}/"
    reply = client.query(url, tls_ca_path=str(tls.ca_path), follow_redirect=1, **options)
    assert (reply.ok, reply.rb) == (1, b"ok")
    assert b"Authorization" not in plain.heads[0]
    assert b"Cookie" not in plain.heads[0]


def test_secrets_stay_on_the_way_within_one_host(client: Client, start_origin: StartOrigin) -> None:
    """The counterpart, without which the others would show nothing."""

    def script(sock: socket.socket, head: bytes) -> None:
        first = head.startswith(b"GET / ")
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n" if first else REPLY)

    for options in SECRETS:
        origin = start_origin(script)
        assert client.query(origin.url, follow_redirect=1, **options).rb == b"ok"
        assert len(origin.heads) == 2
        assert b"Authorization: " in origin.heads[1] or b"Cookie: secret=1" in origin.heads[1]


def test_user_info_of_a_location(client: Client, start_origin: StartOrigin, redirect: Redirect) -> None:
    """It is that origin's own word to the next one: neither the query's login, nor the next query's."""
    other = start_origin(answer)
    origin = redirect(f"http://mallory:her-own@127.0.0.1:{other.port}/")
    assert client.query(origin.url, follow_redirect=1, **SECRETS[0]).ok == 1
    assert b"Basic " + b64encode(b"alice:secret") not in other.heads[0]
    assert client.query(other.url).ok == 1
    assert b"Authorization" not in other.heads[1]


def test_method_after_a_redirect_is_what_the_status_says(client: Client, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        if head.split(b" ")[1] == b"/done":
            sock.sendall(REPLY)
        else:
            status = head.split(b" ")[1][1:]
            sock.sendall(b"HTTP/1.1 " + status + b" X\r\nLocation: /done\r\nContent-Length: 0\r\n\r\n")

    origin = start_origin(script)
    for status in (303, 307):
        assert client.query(f"{origin.url}/{status}", method="DELETE", follow_redirect=1).ok == 1
    methods = [head.split(b" ")[0] for head in origin.heads]
    assert methods == [b"DELETE", b"GET", b"DELETE", b"DELETE"]
