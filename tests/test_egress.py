"""What may be reached, through a real daemon: addresses, redirects, names, kept connections, rules by user."""

from __future__ import annotations

import grp
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hacd import Client
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import REPLY, RawOrigin, Script, answer
from tests.support.routes import write_routes
from tests.support.stranger import UID, needs_root, stranger
from tests.support.tls import TlsNginx
from tests.support.waiting import wait_for

OTHER = "127.0.0.2"


def redirect(location: str, status: int = 302) -> Script:
    head = f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    return lambda sock, request: sock.sendall(REPLY if request.startswith(b"GET /next ") else head)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that may not reach 127.0.0.2; its tests count nothing."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), deny=f"{OTHER}, ::1, 169.254.0.0/16").wait_ready()
    yield daemon
    daemon.close()


@pytest.fixture
def client(guarded: Daemon) -> Iterator[Client]:
    with guarded.client() as client:
        yield client


def is_denied(reply: Any) -> bool:
    assert (reply.ok, reply.code, reply.rs, reply.rb) == (0, 7, 0, b""), reply.err
    return bool(reply.err.startswith("egress: "))


# -- addresses


def test_a_denied_address(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    fine, denied = start_origin(answer), start_origin(answer, OTHER)
    daemon = start_daemon(deny="127.0.0.2/32")
    with daemon.client() as client:
        assert client.query(fine.url).rb == b"ok"
        reply = client.query(f"http://alice:secret@{OTHER}:{denied.port}/")
        assert (reply.ok, reply.code) == (0, 7)
        assert reply.err == "egress: 127.0.0.2 is denied ([egress] deny 127.0.0.2/32)"
        assert reply.time["total"] < 1_000_000
        figures = client.stats()
    assert denied.accepted == 0
    assert (figures["denied"], figures["errors"], figures["replies"]) == (1, 1, 1)
    [line] = [line for line in daemon.log.splitlines() if "WARNING" in line]
    assert f"{reply.id}: http://127.0.0.2:{denied.port}/: {reply.err}, asked for by uid " in line


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "0x7f.2", "127.0.0.2.", "[::ffff:7f00:2]"]
)
def test_whatever_the_url_says(client: Client, start_origin: StartOrigin, host: str) -> None:
    denied = start_origin(answer, OTHER)
    assert is_denied(client.query(f"http://{host}:{denied.port}/"))
    assert is_denied(client.query(f"http://127.0.0.1@{host}:{denied.port}/"))
    assert denied.accepted == 0


def test_link_local_by_default(start_daemon: StartDaemon) -> None:
    with start_daemon().client() as client:
        for host in (
            "169.254.169.254",
            "[fe80::1%25lo]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "0xa9fea9fe",
        ):
            reply = client.query(f"http://{host}/latest/meta-data/")
            assert is_denied(reply)
            assert "[egress] deny" in str(reply.err)


def test_http_3_is_judged_too(client: Client, tls: TlsNginx) -> None:
    for version in (0, 2, 3):
        assert is_denied(client.query(f"https://{OTHER}:1/", http_version=version))


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_a_redirect_to_a_denied_address(client: Client, start_origin: StartOrigin, scheme: str) -> None:
    denied = start_origin(answer, OTHER)
    origin = start_origin(redirect(f"{scheme}://127.2:{denied.port}/"))
    for _ in range(2):
        reply = client.query(origin.url, follow_redirect=1)
        assert is_denied(reply)
        assert reply.url == f"http://127.0.0.2:{denied.port}/"
    assert denied.accepted == 0
    assert client.query(origin.url).rs == 302


def test_a_name_with_a_denied_address_leads_to_another(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    assert client.query(f"http://localhost:{origin.port}/").ip == "127.0.0.1"
    assert client.query(f"http://any.localhost:{origin.port}/").ip == "127.0.0.1"


def test_a_name_with_no_other(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with start_daemon(deny="127.0.0.0/8,::1").client() as client:
        for host in ("localhost", "LOCALHOST.", "any.localhost", "0.0.0.0", "0"):
            assert is_denied(client.query(f"http://{host}:{origin.port}/")), host
    assert origin.accepted == 0


def test_an_error_of_an_allowed_address_is_curls(client: Client, nobody: str) -> None:
    """One of localhost's is denied, the other refuses: that is the error."""
    reply = client.query(nobody.replace("127.0.0.1", "localhost"))
    assert (reply.ok, reply.code) == (0, 7)
    assert reply.err is not None
    assert not reply.err.startswith("egress")


def test_allow(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    fine, other = start_origin(answer), start_origin(answer, OTHER)
    with start_daemon(allow="127.0.0.1").client() as client:
        assert client.query(fine.url).ok == 1
        assert client.query(f"http://[::ffff:127.0.0.1]:{fine.port}/").ok == 1
        reply = client.query(other.url)
        assert (reply.code, reply.err) == (7, "egress: 127.0.0.2 is in no network of [egress] allow")


def test_ports(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    fine, other = start_origin(answer), start_origin(answer)
    away = start_origin(redirect(other.url))
    with start_daemon(ports=f"{fine.port},{away.port}").client() as client:
        assert client.query(fine.url).ok == 1
        reply = client.query(other.url)
        assert (reply.code, reply.err) == (7, f"egress: port {other.port} is none of [egress] ports")
        assert is_denied(client.query(away.url, follow_redirect=1))
    assert other.accepted == 0


# -- hosts


def test_hosts(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    port = origin.port
    with start_daemon(hosts=f"*.localhost, 127.0.0.1:{port}").client() as client:
        for host in ("a.localhost", "A.b.LOCALHOST.", "%61.localhost", "127.0.0.1", "2130706433", "x:y@a.localhost"):
            assert client.query(f"http://{host}:{port}/").ok == 1, host
        for host in ("localhost", "a.localhost@localhost", "a.localhost.test", "127.0.0.2", "ü.localhost"):
            reply = client.query(f"http://{host}:{port}/")
            assert is_denied(reply), host
            assert str(reply.err).endswith("is none of [egress] hosts")
        assert is_denied(client.query("http://127.0.0.1:1/"))
        assert is_denied(client.query(f"http://a.localhost\\@localhost:{port}/"))
        figures = client.stats()
    assert figures["denied"] == 7
    assert origin.accepted > 0


@pytest.mark.parametrize(
    ("location", "fine"),
    [
        ("/next", True),
        ("next", True),
        ("//127.0.0.1:{port}/next", True),
        ("http://localhost:{port}/next", False),
        ("//localhost:{port}/next", False),
        ("HTTP://127.0.0.1:{port}@localhost:{port}/next", False),
        ("  http://localhost:{port}/next", False),
        ("http:///localhost:{port}/next", False),
        ("file:///etc/passwd", False),
    ],
)
def test_hosts_of_redirects(start_daemon: StartDaemon, start_origin: StartOrigin, location: str, fine: bool) -> None:
    origin: RawOrigin

    def script(sock: socket.socket, head: bytes) -> None:
        redirect(location.format(port=origin.port))(sock, head)

    origin = start_origin(script)
    with start_daemon(hosts="127.0.0.1", curl_follow_redirect=1).client() as client:
        reply = client.query(origin.url)
        assert reply.rb == b"ok" if fine else is_denied(reply), reply.err
        assert len(origin.heads) == 1 + fine
        assert client.query(origin.url, follow_redirect=0).rs == 302


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1\t302 Found\r\n",
        b"HTTP/1.1 302 Found\r\nHTTP/x: 200 OK\r\n",
        b"HTTP/1.1 302 Found\r\nHTTP/1.1: 200 OK\r\nHTTP/2 : 200\r\n",
        b"HTTP/1.1 103 Early Hints\r\nHTTP/y: 200 OK\r\n\r\nHTTP/1.1 302 Found\r\nHTTP/z: 404 x\r\n",
    ],
)
def test_a_redirect_that_does_not_look_like_one(
    start_daemon: StartDaemon, start_origin: StartOrigin, head: bytes
) -> None:
    """libcurl follows these: the host that is not to be named was asked, although its reply reached nobody."""
    other = start_origin(answer)
    location = f"Location: http://localhost:{other.port}/\r\nContent-Length: 0\r\n\r\n".encode()
    origin = start_origin(lambda sock, _: sock.sendall(head + location))
    with start_daemon(hosts="127.0.0.1", curl_follow_redirect=3).client() as client:
        assert is_denied(client.query(origin.url))
        assert not other.heads


def test_a_location_that_leads_nowhere_is_not_judged(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(redirect("http://localhost/", status=201))
    with start_daemon(hosts="127.0.0.1", curl_follow_redirect=1).client() as client:
        assert client.query(origin.url).rs == 201


def test_a_location_thousands_of_times(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """Each was judged anew, and all lines before it were read: ten such replies held a worker for 8 s."""
    origin = start_origin(lambda sock, _: sock.sendall(b"HTTP/1.1 300 X\r\n" + b"Location:/\r\n" * 6000))
    with start_daemon(workers=1, hosts="127.0.0.1", curl_follow_redirect=1).client() as client:
        begin = time.monotonic()
        queries = [(origin.url, {"timeout": 15_000})] * 10
        assert {reply.code for reply in client.query_many(queries, in_flight=10)} == {100}
        assert time.monotonic() - begin < 3


# -- kept connections


def held(sock: socket.socket, head: bytes) -> None:
    """An origin that keeps one query in flight, and answers others."""
    if not head.startswith(b"GET /hold "):
        sock.sendall(REPLY)


@pytest.mark.parametrize("busy", [False, True])
def test_a_kept_connection_that_is_no_longer_allowed(
    start_daemon: StartDaemon, start_origin: StartOrigin, busy: bool
) -> None:
    other, origin = start_origin(answer, OTHER), start_origin(held)
    daemon = start_daemon()
    with daemon.client() as client:
        if busy:
            client.send(f"{origin.url}/hold", timeout=20_000)
        assert client.query(other.url).ok == 1
        client.set("egress.deny", [OTHER])
        assert is_denied(client.query(other.url))
        assert client.query(origin.url).ok == 1
        client.set("egress.deny", [])
        assert client.query(other.url).ok == 1
    assert len(other.heads) == 2


def by_user(path: Path, **rules: dict[str, list[str]]) -> Path:
    """A file with rules for nobody: `users` or `groups`."""
    lines = []
    for kind, lists in rules.items():
        name = str(UID) if kind == "users" else grp.getgrgid(UID).gr_name
        lines += [f"[egress.{kind}.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in lists.items())]
    path.write_text("\n".join(lines))
    path.chmod(0o644)
    return path


def ask(daemon: Daemon, url: str, program: str = "print(call('query', [{url!r}]))") -> str:
    """What nobody is told."""
    with stranger(daemon.socket, program.format(url=url)) as caller:
        return caller.communicate()[0]


@needs_root
@pytest.mark.parametrize("kind", ["users", "groups"])
def test_rules_by_user(start_open_daemon: StartDaemon, start_origin: StartOrigin, tmp_path: Path, kind: str) -> None:
    other = start_origin(answer, OTHER)
    daemon = start_open_daemon(config=by_user(tmp_path / "hacd.toml", **{kind: {"deny": [OTHER]}}))
    with daemon.client() as client:
        assert client.query(other.url).ok == 1
        said = ask(daemon, other.url)
        assert f"egress: 127.0.0.2 is denied ([egress.{kind}." in said
        assert client.query(other.url).ok == 1
        assert client.stats()["denied"] == 1
    assert len(other.heads) == 2
    assert f"asked for by uid {UID} pid " in daemon.log


@needs_root
def test_a_connection_of_another_user_is_passed_by(
    start_open_daemon: StartDaemon, start_origin: StartOrigin, tmp_path: Path
) -> None:
    """The name has another address, which this user may reach: he gets there."""
    four = start_origin(answer)
    with socket.create_server(("::1", four.port), family=socket.AF_INET6) as six:
        daemon = start_open_daemon(config=by_user(tmp_path / "hacd.toml", users={"deny": ["::1"]}))
        url = f"http://localhost:{four.port}/"
        with daemon.client() as client:
            id_ = client.send(url, timeout=20_000)
            connection, _ = six.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(REPLY)
                wait_for("the reply", lambda: id_ not in [row["id"] for row in client.transactions()])
                assert "'ip': '127.0.0.1'" in ask(daemon, url)
                connection.setblocking(False)
                assert connection.recv(1000, socket.MSG_DONTWAIT) == b""  # closed, with not a byte of his


@needs_root
def test_rules_by_user_change_with_a_reload(
    start_open_daemon: StartDaemon, start_origin: StartOrigin, tmp_path: Path
) -> None:
    other = start_origin(answer, OTHER)
    file = by_user(tmp_path / "hacd.toml", users={"ports": ["1"]})
    daemon = start_open_daemon(config=file)
    assert f"port {other.port} is none of [egress.users.{UID}] ports" in ask(daemon, other.url)
    file.write_text("")
    with daemon.client() as client:
        assert client.reload()["changed"] == ["egress.users"]
    assert "'rb': b'ok'" in ask(daemon, other.url)


@needs_root
def test_the_rules_are_not_for_a_caller_to_name(
    start_open_daemon: StartDaemon, start_origin: StartOrigin, tmp_path: Path
) -> None:
    daemon = start_open_daemon(config=by_user(tmp_path / "hacd.toml", users={"deny": [OTHER]}))
    said = ask(daemon, start_origin(answer, OTHER).url, "print(call('query', [{url!r}, {{'egress': ''}}]))")
    assert "option 'egress' is unknown" in said


@needs_root
def test_queries_of_routes_have_their_callers_rules(
    start_open_daemon: StartDaemon, start_origin: StartOrigin, tmp_path: Path
) -> None:
    other = start_origin(answer, OTHER)
    text = """
@route("ASK")
async def ask(tx):
    reply = await tx.query("ORIGIN/")
    return reply.err or reply.rb
"""
    routes = write_routes(tmp_path, text, other.url)
    daemon = start_open_daemon(routes=routes, config=by_user(tmp_path / "hacd.toml", users={"deny": [OTHER]}))
    with daemon.client() as client:
        assert client.run("ASK") == b"ok"
    assert "egress: 127.0.0.2 is denied" in ask(daemon, other.url, "print(call('run', ['ASK']))")
