"""Logins: `authmethod`, `username` and `password`, against httpbin and Apache."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pycurl
import pytest

from hacd import Client, Refused
from hacd.worker import logins
from tests.conftest import StartDaemon, StartOrigin
from tests.support.apache import LOGINS, Apache, has_apache
from tests.support.origins import Httpbin, answer

BASIC, DIGEST, NTLM, DIGEST_IE = 1, 2, 8, 16


@pytest.mark.parametrize("authmethod", [None, BASIC, BASIC | DIGEST])
def test_basic(client: Client, httpbin: Httpbin, authmethod: int | None) -> None:
    url = f"{httpbin.url}/basic-auth/alice/secret"
    reply = client.query(url, username="alice", password="secret", authmethod=authmethod)
    assert (reply.rs, json.loads(reply.rb)) == (200, {"authenticated": True, "user": "alice"})
    assert client.query(url, username="alice", password="wrong", authmethod=authmethod).rs == 401
    assert client.query(url).rs == 401  # what one query sets, the next does not see


@pytest.mark.parametrize("authmethod", [None, DIGEST, DIGEST_IE, BASIC | DIGEST])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_digest(client: Client, httpbin: Httpbin, authmethod: int | None, algorithm: str) -> None:
    url = f"{httpbin.url}/digest-auth/auth/alice/secret/{algorithm}"
    reply = client.query(url, username="alice", password="secret", authmethod=authmethod)
    assert (reply.rs, reply.ok) == (200, 1)
    assert reply.head.count(b"HTTP/1.1") == 1  # the last header block, not that of the 401
    assert client.query(url).rs == 401


def test_a_password_is_only_sent_where_it_is_asked_for(client: Client, start_origin: StartOrigin) -> None:
    """With several methods, libcurl asks first; with Basic alone, it sends at once."""
    origin = start_origin(answer)
    client.query(origin.url, username="alice", password="secret")
    assert b"Authorization" not in origin.heads[0]
    client.query(origin.url, username="alice", password="secret", authmethod=BASIC)
    assert b"Authorization: Basic " in origin.heads[1]
    client.query(origin.url, authmethod=BASIC)
    assert b"Authorization" not in origin.heads[2]


def test_user_info_of_the_url(client: Client, httpbin: Httpbin) -> None:
    """It is a login too; a `username` goes before it."""
    url = f"{httpbin.url}/basic-auth/alice/secret".replace("http://", "http://alice:secret@")
    for authmethod in (None, BASIC):
        assert client.query(url, authmethod=authmethod).rs == 200
        assert client.query(url, username="alice", password="wrong", authmethod=authmethod).rs == 401
    assert client.query(url, authmethod=DIGEST).rs == 401


def test_authmethod_of_the_daemon(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with start_daemon(authmethod=BASIC).client() as client:
        client.query(origin.url, username="alice", password="secret")
    assert b"Authorization: Basic " in origin.heads[0]


# -- Apache: another server's reading of the same


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    if not has_apache(*LOGINS):
        pytest.skip("apache2 is missing: `make apache` installs it")
    server = Apache()
    yield server
    server.close()


@pytest.mark.parametrize(("place", "authmethod"), [("basic", BASIC), ("digest", DIGEST), ("digest", DIGEST_IE)])
def test_apache(client: Client, apache: Apache, place: str, authmethod: int) -> None:
    url = f"{apache.url}/{place}/"
    for user in ("alice", "bob", "alice"):
        reply = client.query(url, username=user, password=f"{user}-secret", authmethod=authmethod)
        assert (reply.rs, reply.hdr("X-User"), reply.hdr("X-Auth-Type")) == (200, user, place.capitalize())
        assert client.query(url).rs == 401
    assert client.query(url, username="alice", password="bob-secret", authmethod=authmethod).rs == 401


@pytest.mark.parametrize(("place", "scheme"), [("basic", "Basic"), ("digest", "Digest")])
def test_apache_is_asked_what_it_wants(client: Client, apache: Apache, place: str, scheme: str) -> None:
    reply = client.query(f"{apache.url}/{place}/", username="bob", password="bob-secret")
    assert (reply.rs, reply.hdr("X-Auth-Type")) == (200, scheme)


@pytest.mark.parametrize("place", ["basic", "digest"])
@pytest.mark.parametrize("as_user_info", [False, True])
def test_what_one_origin_wanted_is_not_what_the_next_one_gets(
    client: Client, apache: Apache, start_origin: StartOrigin, place: str, as_user_info: bool
) -> None:
    """libcurl notes in its handle which method was picked, and by which challenge; each login is asked for anew."""
    origin = start_origin(answer)
    for _ in range(2):
        if as_user_info:
            url = apache.url.replace("http://", "http://alice:alice-secret@")
            assert client.query(f"{url}/{place}/").rs == 200
            assert client.query(origin.url.replace("http://", "http://bob:secret@")).ok == 1
        else:
            assert client.query(f"{apache.url}/{place}/", username="alice", password="alice-secret").rs == 200
            assert client.query(origin.url, username="bob", password="secret").ok == 1
    assert [b"Authorization" in head for head in origin.heads] == [False, False]


def test_what_a_redirect_picked_is_not_what_the_next_query_gets(
    client: Client, apache: Apache, start_origin: StartOrigin
) -> None:
    location = apache.url.replace("http://", "http://alice:alice-secret@") + "/basic/"
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    origin, other = start_origin(lambda sock, _head: sock.sendall(head)), start_origin(answer)
    assert client.query(origin.url, follow_redirect=1).ok == 1  # older libcurls do not log in there
    assert client.query(other.url, username="bob", password="secret", follow_redirect=1).ok == 1
    assert b"Authorization" not in other.heads[0]


def test_digest_with_a_body(client: Client, apache: Apache) -> None:
    """libcurl asks first without the body, which then comes whole."""
    options: dict[str, Any] = {"username": "alice", "password": "alice-secret", "authmethod": DIGEST, "method": "PUT"}
    reply = client.query(f"{apache.url}/digest/", body=b"x" * 100_000, **options)
    assert (reply.rs, reply.hdr("X-User")) == (405, "alice")  # let in; only, a file is nothing to put to


#: since 8.21.0 libcurl takes 16 for plain Digest
HAS_IE_FLAVOUR = pycurl.version_info()[2] < 0x081500


@pytest.mark.parametrize(
    ("authmethod", "agent", "rs"),
    [
        (DIGEST, "curl", 200),
        (DIGEST_IE, "curl", 400 if HAS_IE_FLAVOUR else 200),
        (DIGEST, "MSIE", 200),
        (DIGEST_IE, "MSIE", 200),
    ],
)
def test_digest_with_ie_flavour(client: Client, apache: Apache, authmethod: int, agent: str, rs: int) -> None:
    """It leaves the query string out of what is signed. Apache takes that from Internet Explorer alone."""
    options: dict[str, Any] = {"username": "alice", "password": "alice-secret", "authmethod": authmethod}
    assert client.query(f"{apache.url}/digest/?a=1", hdr=[f"User-Agent: {agent}"], **options).rs == rs


# -- methods that libcurl may lack

HAS_NTLM = bool(pycurl.version_info()[4] & pycurl.VERSION_NTLM)
NO_NTLM = (
    r"authmethod: 8 \(NTLM\) is wrong: this libcurl has no NTLM; it has 1 Basic, 2 Digest, .*16 Digest with IE flavour"
)


@pytest.mark.skipif(HAS_NTLM, reason="this libcurl has NTLM")
def test_ntlm_is_refused_by_name(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    for login in ({}, {"username": "alice", "password": "secret"}):
        for _ in range(2):
            with pytest.raises(Refused, match=NO_NTLM) as refused:
                client.query(origin.url, authmethod=NTLM, **login)
            assert refused.value.code == "bad_request"
    assert origin.heads == []
    reply = client.query(origin.url, username="alice", password="secret", authmethod=NTLM | BASIC)
    assert (reply.ok, b"Authorization: Basic " in origin.heads[0]) == (1, True)  # one method of a sum is enough


@pytest.mark.skipif(HAS_NTLM, reason="this libcurl has NTLM")
def test_ntlm_as_the_parameter_is_refused_for_logins(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    daemon = start_daemon(authmethod=NTLM)
    daemon.tolerate.add(" ERROR ")
    assert daemon.log.count("parameter authmethod: 8 (NTLM) is wrong: this libcurl has no NTLM") == 1
    with daemon.client() as client:
        assert client.query(origin.url).ok == 1
        with pytest.raises(Refused, match=NO_NTLM):
            client.query(origin.url, username="alice", password="secret")
        assert len(origin.heads) == 1
        assert client.query(origin.url, username="alice", password="secret", authmethod=BASIC).ok == 1
        user_info = origin.url.replace("http://", "http://alice:secret@")
        assert client.query(user_info).ok == 1
    assert [b"Authorization" in head for head in origin.heads] == [False, True, False]


@pytest.mark.skipif(not HAS_NTLM, reason="this libcurl has no NTLM")
def test_ntlm_is_sent_where_libcurl_has_it(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    client.query(origin.url, username="alice", password="secret", authmethod=NTLM)
    assert b"Authorization: NTLM TlRMTVNTUAAB" in origin.heads[0]


@pytest.mark.parametrize(("tells_apart", "authmethod", "connections"), [(False, 9, 2), (True, 9, 1), (False, 3, 1)])
def test_libcurl_that_mixes_logins_gives_connections_up(
    monkeypatch: pytest.MonkeyPatch, start_origin: StartOrigin, tells_apart: bool, authmethod: int, connections: int
) -> None:
    """Where Negotiate or NTLM may have logged a connection in, and libcurl is too old to know for whom."""
    monkeypatch.setattr(logins, "TELLS_CONNECTIONS_APART", tells_apart)
    origin = start_origin(answer)
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, origin.url)
    curl.setopt(pycurl.WRITEFUNCTION, lambda _data: None)
    logins.log_in(curl, authmethod, [b"alice", b"secret"])
    for _ in range(2):
        curl.perform()
    curl.close()
    assert (len(origin.heads), origin.accepted) == (2, connections)
