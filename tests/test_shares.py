"""What one user may have of the daemon, and who gets in when it is full."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack

import pytest

from hacd import Refused
from hacd.front.doors import RESERVED, Doors, Shares
from hacd.front.owner import Peer
from hacd.settings.table import Limits
from tests.conftest import StartDaemon, StartOrigin, StartRoutes
from tests.support.daemon import Daemon
from tests.support.origins import Nginx
from tests.support.stranger import UID, needs_root, stranger
from tests.support.waiting import wait_for
from tests.support.wire import Wire

US = os.geteuid()


# -- what decides


class Guest:
    def __init__(self, uid: int, reserved: bool = False) -> None:
        self.peer = Peer(1, uid, uid)
        self.reserved = reserved


def doors(**limits: int) -> Doors:
    made = Doors()
    made.configure(Limits(**limits))
    return made


def test_shares() -> None:
    shares = Shares(2, [5, 5, 6])
    assert shares.full(5)
    assert not shares.take(5)
    assert shares.take(6)
    assert not shares.take(6)
    assert shares.take(7)
    shares.leave(5)
    assert shares.take(5)
    shares.limit = 0
    assert shares.take(5)


def test_no_user_has_more_than_his_share() -> None:
    inside = doors(max_clients=10, max_user_clients=2)
    guests = [Guest(5), Guest(5)]
    for guest in guests:
        assert inside.judge(guest.peer) is None
        inside.enter(guest)
    with pytest.raises(Refused, match=r"busy: max_user_clients \(2\) of uid 5 are connected"):
        inside.judge(guests[0].peer)
    assert inside.judge(Peer(1, 6, 6)) is None
    inside.leave(guests[0])
    assert inside.judge(guests[0].peer) is None


def test_the_reserve_is_for_admins_and_has_an_end() -> None:
    inside = doors(max_clients=1)
    inside.enter(Guest(5))
    with pytest.raises(Refused, match=r"busy: max_clients \(1\) are connected"):
        inside.judge(Peer(1, 5, 5))
    guest = Guest(US, reserved=True)
    for _ in range(RESERVED):
        why = inside.judge(guest.peer)
        assert why is not None
        assert "max_clients (1)" in why.message
        inside.enter(guest)
    with pytest.raises(Refused, match="max_clients"):
        inside.judge(guest.peer)
    inside.leave(guest)
    assert inside.judge(guest.peer) is not None
    inside.leave(Guest(5))
    assert inside.judge(Peer(1, 5, 5)) is None  # who is in the reserve takes nobody's place


# -- through the socket


def test_admins_look_and_stop_when_all_places_are_taken(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(max_clients=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(Wire(daemon.socket)).call("ping", [])
        with daemon.client() as admin:
            assert admin.stats()["clients"] == 3
            assert admin.ping()["pid"]
            admin.set("max_clients", 3)
            admin.set("max_clients", 2)
            with pytest.raises(Refused, match=r"busy: max_clients \(2\) are connected"):
                admin.query(nginx.url)
        assert daemon.terminate() == 0


@pytest.mark.parametrize(
    "call", [["send", ["http://x/"]], ["run", ["R"]], ["register", [["R"]]], ["query", ["http://x/"]]]
)
def test_nothing_else_is_done_over_the_reserve(start_daemon: StartDaemon, call: list[object]) -> None:
    daemon = start_daemon(max_clients=1)
    with Wire(daemon.socket) as first:
        first.call("ping", [])
        with Wire(daemon.socket) as admin:
            assert admin.call("ping", [], 5)[0] is None
            admin.send([0, 6, *call])
            _, msgid, error, _ = admin.receive()
            assert (msgid, error["code"]) == (6, "busy")
            assert admin.receive() is None
        with Wire(daemon.socket) as admin:
            admin.send([2, "send", ["http://x/"]])
            assert admin.receive()[2]["code"] == "busy"
            assert admin.receive() is None


def test_the_reserve_is_bounded_too(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(max_clients=1)
    with ExitStack() as stack:
        for _ in range(1 + RESERVED):
            stack.enter_context(Wire(daemon.socket)).call("ping", [])
        last = stack.enter_context(Wire(daemon.socket))
        _, msgid, error, _ = last.receive()
        assert (msgid, error["code"]) == (None, "busy")
        assert last.receive() is None
        assert f"caller uid {US} pid {os.getpid()} refused: max_clients (1) are connected" in daemon.log


MANY = """
print(call("ping", [])[0])
others = []
for _ in range(3):
    other = socket.socket(socket.AF_UNIX)
    other.connect(sys.argv[1])
    others.append(other)
print(b"max_user_clients (2) of uid 65534" in others[2].recv(1000), others[2].recv(1000), flush=True)
sys.stdin.readline()
"""


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@needs_root
def test_one_user_leaves_room_for_others(start_open_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_open_daemon(max_user_clients=2)
    with stranger(daemon.socket, MANY) as other:
        assert (line(other), line(other)) == ("None\n", "True b''\n")
        with daemon.client() as client, daemon.client() as second:
            assert client.query(nginx.url).ok == 1
            assert second.query(nginx.url).ok == 1
            stats = client.stats()
            assert (stats["busy"], stats["clients"]) == (2, 4)
            with daemon.client() as third, pytest.raises(Refused, match=rf"max_user_clients \(2\) of uid {US}"):
                third.query(nginx.url)  # it is in the reserve
        who = f"caller uid {UID} pid {other.pid} refused: max_user_clients (2) of uid {UID} are connected"
        assert who in daemon.log
        other.communicate("\n")


TAKES = """
for n in range(4):
    wire.sendall(msgpack.packb([0, n, "query", [URL, {"timeout": 60000}]]))
print(msgpack.unpackb(wire.recv(65536))[1:3], flush=True)
sys.stdin.readline()
wire.sendall(msgpack.packb([2, "cancel", [0]]))
print(msgpack.unpackb(wire.recv(65536))[1], flush=True)
wire.sendall(msgpack.packb([0, 9, "query", [URL, {"timeout": 60000}]]))
sys.stdin.readline()
"""


@needs_root
def test_max_user_transactions(start_open_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_open_daemon(max_user_transactions=3)
    with stranger(daemon.socket, TAKES.replace("URL", repr(origin.url))) as other, daemon.client() as client:
        assert line(other) == (
            f"[3, {{'code': 'busy', 'message': 'max_user_transactions (3) of uid {UID} are in flight'}}]\n"
        )
        who = f"caller uid {UID} pid {other.pid} refused: max_user_transactions (3) of uid {UID} are in flight"
        assert who in daemon.log
        assert client.query(nginx.url).ok == 1
        assert (client.stats()["busy"], client.stats()["in_flight"]) == (1, 3)
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        assert line(other) == "0\n"
        wait_for("its place to be taken", lambda: client.stats()["requests"] == 5)
        assert client.stats()["in_flight"] == 3
        other.communicate("\n")
        wait_for("them to be called off", lambda: client.stats()["in_flight"] == 0)


def in_flight(wire: Wire, daemon: Daemon, url: str, msgids: range) -> None:
    wire.send(*([0, msgid, "query", [url, {"timeout": 60_000}]] for msgid in msgids))
    wait_for("them to be in flight", lambda: daemon.stats()["in_flight"] == len(msgids))


def test_a_share_that_is_set_later_counts_what_is_in_flight(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon()
    with Wire(daemon.socket) as wire, daemon.client() as client:
        in_flight(wire, daemon, origin.url, range(5))
        full = re.escape(f"busy: max_user_transactions (5) of uid {US}")
        client.set("max_user_transactions", 5)
        with pytest.raises(Refused, match=full):  # nobody is exempt
            client.query(nginx.url)
        client.set("max_user_transactions", 6)
        assert client.query(nginx.url).ok == 1
        client.set("max_user_transactions", 0)
        assert client.query(nginx.url).ok == 1
        client.set("max_user_transactions", 5)
        wire.send([2, "cancel", [3]])
        wire.receive()
        assert client.query(nginx.url).ok == 1
    wait_for("nothing", lambda: daemon.stats()["in_flight"] == 0)
    with daemon.client() as client:
        assert len([reply for reply in client.query_many([(nginx.url, {})] * 50, in_flight=5) if reply.ok]) == 50


def test_queries_of_routes_are_their_entrants(routes: StartRoutes, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    text = """
@route("TWO")
async def two(tx):
    tx.query("ORIGIN", timeout=300)
    try:
        tx.query("ORIGIN", timeout=300)
    except Exception as error:
        return str(error)
"""
    daemon = routes(text, origin.url, max_user_transactions=1)
    with daemon.client() as client:
        assert client.run("TWO") == f"busy: max_user_transactions (1) of uid {US} are in flight"
        wait_for("it to be called off", lambda: client.stats()["in_flight"] == 0)
