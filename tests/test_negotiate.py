"""Negotiate, against a realm of Kerberos and Apache with mod_auth_gssapi.

`make test-negotiate` installs what that takes, and runs these tests. Without it they are skipped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pycurl
import pytest

from hacd import Client, Reply
from tests.conftest import StartDaemon, StartOrigin
from tests.support import kerberos
from tests.support.apache import Apache, has_apache
from tests.support.daemon import Daemon

BASIC, NEGOTIATE = 1, 4

#: The daemon's own ticket is what is shown; the name is not.
LOGIN: dict[str, Any] = {"username": "", "authmethod": NEGOTIATE}
ALICE = "alice@EXAMPLE.TEST"

# /each wants a login of each request, as HTTP has it; /bound remembers the connection's, as others do.
PLACES = """
Alias /each {directory}/files
Alias /bound {directory}/files
<Location /each>
    AuthType GSSAPI
    AuthName gssapi
    GssapiCredStore keytab:{directory}/http.keytab
    Require valid-user
</Location>
<Location /bound>
    AuthType GSSAPI
    AuthName gssapi
    GssapiCredStore keytab:{directory}/http.keytab
    GssapiConnectionBound On
    Require valid-user
</Location>
"""

pytestmark = [
    pytest.mark.negotiate,
    pytest.mark.skipif(bool(kerberos.missing()), reason="no Kerberos here: `make test-negotiate` installs it"),
    pytest.mark.skipif(not has_apache("auth_gssapi"), reason="no mod_auth_gssapi: `make test-negotiate` installs it"),
    pytest.mark.skipif(not pycurl.version_info()[4] & pycurl.VERSION_SPNEGO, reason="this libcurl has no Negotiate"),
]


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kerberos.Realm]:
    realm = kerberos.Realm(tmp_path_factory.mktemp("realm"))
    yield realm
    realm.close()


@pytest.fixture(scope="module")
def alice(realm: kerberos.Realm) -> dict[str, str]:
    """The environment of a daemon that has Alice's ticket."""
    return realm.ticket("alice")


@pytest.fixture(scope="module")
def apache(realm: kerberos.Realm) -> Iterator[Apache]:
    files = {"http.keytab": realm.keytab.read_bytes(), "krb5.conf": realm.config.read_bytes()}
    server = Apache(("auth_gssapi",), PLACES, files, {"KRB5_CONFIG": "krb5.conf", "KRB5RCACHEDIR": "."})
    yield server
    server.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, alice: dict[str, str]) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), variables=alice).wait_ready()
    yield daemon
    daemon.close()


def url(apache: Apache, place: str) -> str:
    """By the name for which the service has its key."""
    return f"http://localhost:{apache.port}/{place}/"


def who(reply: Reply) -> tuple[int, str | None]:
    """Status, and as whom the query was let in."""
    return reply.rs, reply.hdr("X-User") or None


@pytest.mark.parametrize("place", ["each", "bound"])
@pytest.mark.parametrize("authmethod", [NEGOTIATE, NEGOTIATE | BASIC, 31])
def test_ticket(client: Client, apache: Apache, place: str, authmethod: int) -> None:
    for _ in range(3):
        reply = client.query(url(apache, place), username="", authmethod=authmethod)
        assert (who(reply), reply.hdr("X-Auth-Type"), reply.rb) == ((200, ALICE), "Negotiate", b"in")


def test_ticket_of_the_parameter(start_daemon: StartDaemon, apache: Apache, alice: dict[str, str]) -> None:
    with start_daemon(variables=alice, authmethod=NEGOTIATE).client() as client:
        assert who(client.query(url(apache, "each"), username="")) == (200, ALICE)
        assert who(client.query(url(apache, "each"))) == (401, None)


def test_name_and_password_are_not_what_counts(client: Client, apache: Apache) -> None:
    """The ticket is."""
    reply = client.query(url(apache, "each"), username="bob", password="wrong", authmethod=NEGOTIATE)
    assert who(reply) == (200, ALICE)


def test_username_goes_before_user_info(client: Client, apache: Apache) -> None:
    with_user_info = url(apache, "each").replace("http://", "http://bob:secret@")
    assert who(client.query(with_user_info, **LOGIN)) == (200, ALICE)


def test_shell(daemon: Daemon, apache: Apache) -> None:
    command = [sys.executable, "-m", "hacd", "query", url(apache, "each"), "--socket", daemon.socket]
    done = subprocess.run(
        [*command, "-i", "--user", ":", "--authmethod", "4"], capture_output=True, timeout=30, check=True
    )
    assert f"X-User: {ALICE}".encode() in done.stdout


def test_body_comes_with_the_ticket(client: Client, apache: Apache) -> None:
    reply = client.query(url(apache, "each"), method="PUT", body=b"x" * 100_000, **LOGIN)
    assert who(reply) == (405, ALICE)  # let in; only, a file is nothing to put to


def test_ticket_that_comes_later(start_daemon: StartDaemon, apache: Apache, realm: kerberos.Realm) -> None:
    """Without one the origin's 401 is the reply; `kinit` is heeded by a daemon that runs."""
    with start_daemon(variables=realm.no_ticket("bob")).client() as client:
        assert who(client.query(url(apache, "each"), **LOGIN)) == (401, None)
        realm.ticket("bob")
        assert who(client.query(url(apache, "each"), **LOGIN)) == (200, "bob@EXAMPLE.TEST")


def test_service_that_the_realm_does_not_know(client: Client, apache: Apache) -> None:
    assert who(client.query(f"http://127.0.0.1:{apache.port}/each/", **LOGIN)) == (401, None)


@pytest.mark.parametrize("authmethod", [NEGOTIATE, NEGOTIATE | BASIC])
def test_without_a_username_no_ticket_is_shown(client: Client, apache: Apache, authmethod: int) -> None:
    """Nor with a login in the URL, which is for other methods; nor after a query that had one."""
    for place in ("each", "bound"):
        assert who(client.query(url(apache, place), authmethod=authmethod)) == (401, None)
        assert who(client.query(url(apache, place), username="", authmethod=authmethod)) == (200, ALICE)
        assert who(client.query(url(apache, place), authmethod=authmethod)) == (401, None)
        with_user_info = url(apache, place).replace("http://", "http://alice:secret@")
        assert who(client.query(with_user_info, authmethod=authmethod)) == (401, None)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"authmethod": NEGOTIATE},
        {"authmethod": BASIC, "username": "alice", "password": "secret"},
        {"authmethod": BASIC, "username": "", "password": ""},
        {"username": "alice", "password": "secret"},
    ],
)
def test_connection_that_was_logged_in_is_for_that_login(client: Client, apache: Apache, other: dict[str, Any]) -> None:
    """At /bound, whatever came on that connection would be let in as Alice."""
    for _ in range(3):
        logged_in = client.query(url(apache, "bound"), **LOGIN)
        assert who(logged_in) == (200, ALICE)
        reply = client.query(url(apache, "bound"), **other)
        assert who(reply) == (401, None)
        assert reply.hdr("X-Connection") != logged_in.hdr("X-Connection")


def test_many_at_once_each_with_its_own_login(client: Client, apache: Apache) -> None:
    queries: list[Any] = []
    for number in range(60):
        login = LOGIN if number % 2 else {}
        queries.append((url(apache, "bound"), "", {"xdata": number % 2, **login}))
    replies = list(client.query_many(queries))
    assert [reply.err for reply in replies if not reply.ok] == []
    assert len(replies) == 60
    assert {(reply.xdata, who(reply)) for reply in replies} == {(1, (200, ALICE)), (0, (401, None))}


@pytest.mark.parametrize("user_info", ["", "alice:secret@", ":@"])
def test_ticket_is_not_shown_where_a_redirect_leads(
    client: Client, apache: Apache, start_origin: StartOrigin, user_info: str
) -> None:
    location = url(apache, "each").replace("http://", f"http://{user_info}")
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    origin = start_origin(lambda sock, _head: sock.sendall(head))
    assert who(client.query(origin.url, follow_redirect=1, **LOGIN)) == (401, None)
