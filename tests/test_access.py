"""Who may call, what he may see and call off, and which files he may name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hacd import Client, Refused
from hacd.front.access import Access, RulesByUser
from hacd.front.owner import Peer
from hacd.log.sparing import RATE, Sparing
from hacd.rpc import pack, unpack
from hacd.settings import Hacd, Settings
from hacd.settings.table import Egress
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import RawOrigin, answer
from tests.support.stranger import UID, needs_root, stranger
from tests.support.tls import TlsNginx
from tests.support.waiting import wait_for
from tests.support.wire import Wire

FORBIDDEN = f"'code': 'forbidden', 'message': 'uid {UID} may not call: hacd.allow_users and allow_groups say who may'"


def peer(uid: int, *groups: int) -> Peer:
    return Peer(1, uid, groups[0] if groups else uid, tuple(sorted(groups or (uid,))))


# -- what decides


def test_everybody_by_default() -> None:
    assert Access(Settings()).admits(peer(12345))


def test_lists_say_who() -> None:
    access = Access(Settings(hacd=Hacd(allow_users=("5",), allow_groups=("7", "0"))))
    assert access.admits(peer(5))
    assert access.admits(peer(6, 6, 7))
    assert access.admits(peer(6, 0))
    assert not access.admits(peer(7, 8, 9))
    assert not access.admits(peer(6))


def test_root_and_the_daemons_user_always_may() -> None:
    access = Access(Settings(hacd=Hacd(allow_users=("5",))))
    assert access.admits(peer(0))
    assert access.admits(peer(os.geteuid()))


def test_a_user_who_is_gone_lets_nobody_in() -> None:
    """It was there when the settings were read. The list does not get empty by it."""
    access = Access(Settings(hacd=Hacd(allow_users=("no-such-user",))))
    assert not access.admits(peer(12345))


def test_rules_of_the_user_go_before_those_of_his_groups() -> None:
    rules = RulesByUser(Settings(egress=Egress(users={"5": {}}, groups={"8": {}, "7": {}})))
    assert rules.name(peer(5, 5, 7)) == "users.5"
    assert rules.name(peer(6, 6, 7, 8)) == "groups.8"
    assert rules.name(peer(6, 7)) == "groups.7"
    assert rules.name(peer(6)) == ""
    assert not RulesByUser(Settings())


def test_rules_travel_with_the_shape() -> None:
    rules = RulesByUser(Settings(egress=Egress(users={"5": {}})))
    shape = pack({"method": "PUT"})
    assert unpack(rules.shape(peer(5), shape)) == {"method": "PUT", "egress": "users.5"}
    assert unpack(rules.shape(peer(5), b"")) == {"egress": "users.5"}
    assert rules.shape(peer(6), shape) == shape


def test_the_peer_of_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = Peer.of(ours)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert set(found.groups) == {os.getegid(), *os.getgroups()}
    assert str(found) == f"uid {os.geteuid()} pid {os.getpid()}"


def test_few_lines_of_many() -> None:
    now = 5.0
    lines: list[str] = []

    class Logger:
        def warning(self, text: str, *values: object) -> None:
            lines.append(text % values)

    sparing = Sparing(lambda: now)
    for number in range(RATE + 7):
        sparing.warning("line %d", number, to=Logger())  # type: ignore[arg-type]
    assert lines == [f"line {number}" for number in range(RATE)]
    now = 6.0
    sparing.warning("line %d", 99, to=Logger())  # type: ignore[arg-type]
    sparing.warning("line %d", 100, to=Logger())  # type: ignore[arg-type]
    assert lines[RATE:] == ["line 99 (7 lines like this were left out before)", "line 100"]


# -- through the socket


@needs_root
def test_who_is_not_in_the_lists(start_open_daemon: StartDaemon) -> None:
    daemon = start_open_daemon(allow_users="daemon")
    with stranger(daemon.socket, "print(msgpack.unpackb(wire.recv(1000)), wire.recv(1000))") as caller:
        said = caller.communicate()[0]
    assert said == f"[1, None, {{{FORBIDDEN}}}, None] b''\n"
    assert f"caller uid {UID} pid {caller.pid} refused: not in hacd.allow_users nor allow_groups" in daemon.log
    stats = daemon.stats()  # root may
    assert (stats["refused"], stats["clients"]) == (1, 1)


@needs_root
@pytest.mark.parametrize("lists", [{"allow_users": "nobody"}, {"allow_users": str(UID)}, {"allow_groups": str(UID)}])
def test_who_is(start_open_daemon: StartDaemon, lists: dict[str, str]) -> None:
    with stranger(start_open_daemon(**lists).socket, "print(call('ping', [])[0])") as caller:
        assert caller.communicate()[0] == "None\n"


@needs_root
def test_a_supplementary_group_counts(start_open_daemon: StartDaemon) -> None:
    daemon = start_open_daemon(allow_groups="4242")
    program = f"""
import contextlib, os, socket
os.setgroups(GROUPS); os.setgid({UID}); os.setuid({UID})
wire = socket.socket(socket.AF_UNIX)
wire.connect({daemon.socket!r})
with contextlib.suppress(BrokenPipeError):
    wire.sendall(bytes([0x94, 0, 1, 0xA4]) + b"ping" + bytes([0x90]))
print(b"forbidden" in wire.recv(1000))
"""
    for groups, fine in (("[1, 4242, 5]", "False\n"), ("[1, 5]", "True\n")):
        command = [sys.executable, "-c", program.replace("GROUPS", groups)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == fine


@needs_root
def test_the_python_client_is_told(start_open_daemon: StartDaemon) -> None:
    daemon = start_open_daemon(allow_users="daemon")
    # What it imports, it imports as root: another user need not be able to read this checkout.
    program = f"""
import os, sys
from hacd import Client, Refused
os.setgid({UID}); os.setuid({UID})
for _ in range(20):
    try:
        Client(sys.argv[1]).stats()
    except Refused as refused:
        print(refused)
"""
    command = [sys.executable, "-c", program, daemon.socket]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    line = f"forbidden: uid {UID} may not call: hacd.allow_users and allow_groups say who may\n"
    assert (found.stdout, found.stderr) == (line * 20, "")


@needs_root
def test_lists_hold_for_connections_that_begin(start_open_daemon: StartDaemon) -> None:
    daemon = start_open_daemon()
    program = "print(call('ping', [])[0], flush=True); sys.stdin.readline(); print(call('ping', [])[0])"
    with stranger(daemon.socket, program) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "None\n"
        with daemon.client() as client:
            client.set("hacd.allow_users", ["daemon"])
            with stranger(daemon.socket, "print(wire.recv(1000))") as other:
                assert "forbidden" in other.communicate()[0]
            assert caller.communicate("\n")[0] == "None\n"
            client.set("hacd.allow_users", [])
        with stranger(daemon.socket, "print(call('ping', [])[0])") as other:
            assert other.communicate()[0] == "None\n"


@needs_root
def test_refusals_do_not_fill_the_log(start_open_daemon: StartDaemon) -> None:
    daemon = start_open_daemon(allow_users="daemon")
    program = """
for _ in range(300):
    other = socket.socket(socket.AF_UNIX)
    other.connect(sys.argv[1])
    assert b"forbidden" in other.recv(1000)
    other.close()
"""
    with stranger(daemon.socket, program) as caller:
        assert caller.wait(60) == 0
    wait_for("all to be refused", lambda: daemon.stats()["refused"] == 301)
    assert daemon.log.count("nor allow_groups") < 100


@needs_root
@pytest.mark.parametrize("method", ["set", "reload", "tail", "stop"])
def test_a_method_that_is_refused_is_logged(start_open_daemon: StartDaemon, method: str) -> None:
    daemon = start_open_daemon()
    with stranger(daemon.socket, f"print(call({method!r}, [])[0]['code'])") as caller:
        assert caller.communicate()[0] == "forbidden\n"
    line = f"caller uid {UID} pid {caller.pid}: {method} refused: it is for root and the daemon's own user"
    wait_for("the line", lambda: line in daemon.log)


@needs_root
def test_what_is_others_is_neither_seen_nor_cancelled(
    start_open_daemon: StartDaemon, start_origin: StartOrigin, tmp_path: Path
) -> None:
    """Not by its id, not by a msgid, not as a notification; of callers and of the daemon's routes."""
    silent = start_origin(lambda _sock, _head: None)
    routes = tmp_path / "routes.py"
    routes.write_text(
        "from hacd.routes import route\n"
        "@route('HOLD')\nasync def hold(tx):\n"
        f"    tx.http_async_send('{silent.url}/sent', '')\n    await tx.query('{silent.url}/asked')\n"
    )
    daemon = start_open_daemon(routes=routes, connection_timeout=60_000)
    with Wire(daemon.socket) as wire, daemon.client() as client:
        wire.send([0, 7, "query", [silent.url]], [0, 8, "run", ["HOLD"]])
        client.send(silent.url)
        wait_for("four in flight", lambda: len(client.transactions()) == 4)
        ids = client.transactions()
        program = f"""
for id_ in {[row["id"] for row in ids]!r} + [7, 8, 1, -1]:
    wire.sendall(msgpack.packb([2, "cancel", [id_]]))
    print(call("cancel", [id_])[1])
print(call("transactions", [])[1], call("tail", [{{}}])[0]["code"])
"""
        with stranger(daemon.socket, program) as caller:
            assert caller.communicate()[0] == "False\n" * 8 + "[] forbidden\n"
        assert len(client.transactions()) == 4
        assert f"caller uid {UID} pid {caller.pid}: cancel refused: the transaction is uid 0's" in daemon.log
        for row in ids:
            client.cancel(row["id"])
        daemon.wait_idle()


@pytest.mark.parametrize("name", ["allow_users", "allow_groups"])
def test_a_name_that_nobody_has(name: str, tmp_path: Path) -> None:
    what = name.removeprefix("allow_").rstrip("s")
    file = tmp_path / "hacd.toml"
    file.write_text(f'[hacd]\n{name} = [0, "no-such-one"]\n')
    for command in (["check"], ["run", "--socket", str(tmp_path / "sock")]):
        arguments = [sys.executable, "-m", "hacd", *command, "-c", str(file)]
        found = subprocess.run(arguments, capture_output=True, text=True, check=False)
        wrong = f"hacd.{name}: 'no-such-one' is wrong: no such {what}; the name or number of a {what} would be right"
        assert (found.returncode, found.stderr) == (78, f"hacd: {file}: {wrong}\n")


# -- files


@pytest.fixture
def dirs(tmp_path: Path, tls: TlsNginx) -> Path:
    """A directory that callers' files have to lie under."""
    inside = tmp_path / "tls"
    inside.mkdir()
    (inside / "client.pem").write_bytes(Path(tls.client_cert).read_bytes())
    (tmp_path / "outside.pem").write_bytes(Path(tls.client_cert).read_bytes())
    (inside / "out.pem").symlink_to(tmp_path / "outside.pem")
    (tmp_path / "in.pem").symlink_to(inside / "client.pem")
    (tmp_path / "tls-more").mkdir()
    (tmp_path / "tls-more" / "x.pem").write_text("x")
    return inside


def test_files_lie_under_tls_dirs(start_daemon: StartDaemon, start_origin: StartOrigin, dirs: Path) -> None:
    origin = start_origin(answer)
    with start_daemon(tls_dirs=f"/nowhere,{dirs}").client() as client:
        for fine in (dirs / "client.pem", f"{dirs}/../tls/client.pem", dirs.parent / "in.pem"):
            assert client.query(origin.url, tls_client_cert=str(fine)).ok == 1
        assert client.query(origin.url, tls_ca_path=str(dirs)).ok == 1
        for key in ("tls_client_cert", "tls_client_key"):
            for wrong in (dirs / "out.pem", f"{dirs}/../outside.pem", f"{dirs}-more/x.pem", "/etc/passwd", "/no/such"):
                refused(client, origin, key, str(wrong), "a file under one of hacd.tls_dirs would be right")
        refused(client, origin, "tls_ca_path", "/etc", "a directory under one of hacd.tls_dirs would be right")
        refused(client, origin, "tls_client_cert", f"{dirs}/none.pem", "no file there that the daemon may read")


def refused(client: Client, origin: RawOrigin, key: str, value: str, right: str) -> None:
    options: dict[str, Any] = {key: value}
    with pytest.raises(Refused) as caught:
        client.query(origin.url, **options)
    assert caught.value.code == "bad_request"
    assert caught.value.message.startswith(f"{key}: '{value[:40]}")
    assert caught.value.message.endswith(f" is wrong: {right}")


def test_a_link_that_is_changed_later_leads_nowhere_else(
    start_daemon: StartDaemon, tls: TlsNginx, tmp_path: Path
) -> None:
    """libcurl gets the path that was judged: the next query of that shape is judged anew."""
    inside = tmp_path / "tls"
    inside.mkdir()
    for name in (tls.client_cert, tls.client_key):
        (inside / Path(name).name).write_bytes(Path(name).read_bytes())
    link = tmp_path / "link.pem"
    link.symlink_to(inside / Path(tls.client_cert).name)
    options = {"tls_client_cert": str(link), "tls_client_key": str(inside / Path(tls.client_key).name)}
    with start_daemon(tls_dirs=str(inside)).client() as client:
        assert client.query(tls.https(), **options).code == 60
        link.unlink()
        link.symlink_to("/etc/passwd")
        with pytest.raises(Refused, match="a file under one of"):
            client.query(tls.https(), **options)


def test_nothing_else_is_taken_for_a_file(daemon: Daemon, start_origin: StartOrigin, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    origin = start_origin(answer)
    with daemon.client() as client:
        reply = client.query(f"{origin.url}/?f=@{secret}", body=f"@{secret}", hdr=[f"X: @{secret}"], xdata=f"@{secret}")
        assert reply.xdata == f"@{secret}"
        with pytest.raises(Refused, match="http:// or https:// would be right"):
            client.query(f"file://{secret}")
    assert b"s3cret" not in origin.heads[0]
