"""Several fronts on one socket, as processes: where callers land, and what one that dies or hangs costs the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hacd import Client, HacdError
from hacd.front.figures import merged
from hacd.front.front import Front as FrontProper
from hacd.front.transactions import Transactions
from hacd.ledger import SLOT_BITS, Ledger
from hacd.loop import Loop
from hacd.settings import Hacd, Settings
from hacd.settings.shares import IN_ALL, share
from hacd.settings.table import Limits
from hacd.supervisor.children import RETRIES, State
from hacd.supervisor.fronts import Fronts
from tests.conftest import StartDaemon, StartOrigin, StartRoutes
from tests.support.daemon import Daemon
from tests.support.fronts import Callers, dial, front_pids
from tests.support.origins import Nginx, RawOrigin, answer
from tests.support.systemd import Manager, listening
from tests.support.waiting import wait_for
from tests.support.wire import Wire

FRONTS = 3

# -- what decides


def test_ids_of_several_fronts_never_meet() -> None:
    seen: set[int] = set()
    for front in range(1, FRONTS + 1):
        transactions = Transactions(4, front, FRONTS)
        for _ in range(5):
            records = [transactions.suspend() for _ in range(6)]  # two of them are chained
            ids = {record.id for record in records}
            assert {(id_ >> SLOT_BITS) % FRONTS for id_ in ids} == {front % FRONTS}
            assert not ids & seen
            seen |= ids
            for record in records:
                assert transactions.find(record.id) is record
                transactions.release(record)
    assert len(seen) == FRONTS * 5 * 6


def test_shares() -> None:
    limits = Limits(max_transactions=10, max_clients=2, max_user_clients=0, max_host_connections=7)
    settings = Settings(limits=limits)
    assert share(settings) is limits
    shares = share(msgspec.structs.replace(settings, hacd=Hacd(fronts=3)))
    assert (shares.max_transactions, shares.max_clients, shares.max_user_clients) == (3, 1, 0)
    assert shares.max_host_connections == 2
    assert msgspec.structs.replace(shares, **{name: getattr(limits, name) for name in IN_ALL}) == limits


def fronts(count: int) -> Fronts:
    made = Fronts(count, "/run/hacd.sock", 16, lambda _front, _event: True)
    for front in made:
        front.spawned(front.index, 0.0)
    return made


def test_names_and_paths() -> None:
    (only,) = fronts(1)
    assert (only.name, only.path) == ("front", "/run/hacd.sock.workers")
    assert [(front.name, front.path) for front in fronts(2)] == [
        ("front 1", "/run/hacd.sock.front1"),
        ("front 2", "/run/hacd.sock.front2"),
    ]


def give_up(front: Any) -> None:
    for _ in range(RETRIES):
        if front.state is State.BACKOFF:
            front.spawned(1, 0.0)
        front.died(0.0)
        front.gone()
    assert front.state is State.FATAL


def test_ready_when_each_is_or_is_given_up() -> None:
    made = fronts(3)
    one, two, three = made
    one.was_ready = two.was_ready = True
    assert not made.are_ready()
    give_up(three)
    assert made.are_ready()
    assert not made.are_given_up()
    give_up(one)
    give_up(two)
    assert made.are_given_up()
    assert not made.are_ready()


def test_alive_while_each_is() -> None:
    made = fronts(2)
    one, two = made
    assert [made.beat(one), made.beat(one), made.beat(two)] == [False, False, True]
    assert [made.beat(one), made.beat(two)] == [False, True]
    give_up(two)
    assert made.beat(one)


def test_reload_is_over_when_each_has_answered() -> None:
    made = fronts(2)
    one, two = made
    one.reloads = two.reloads = True
    one.reloads = False
    assert made.reload()
    give_up(two)
    assert not made.reload()


def test_figures_add_up() -> None:
    made = fronts(2)
    one, two = made
    one.figures, two.figures = {"requests": 3, "in flight": 1}, {"requests": 4, "in flight": 0}
    assert made.figures() == {"requests": 7, "in flight": 1}
    two.gone()
    assert made.figures() == {"requests": 3, "in flight": 1}


def test_what_fronts_tell_is_merged() -> None:
    loop = Loop()
    front = FrontProper(loop, Settings(), Ledger(16))
    front.states = [[1, 11, "running", 0], [2, 0, "backoff", 3]]
    worker = {"worker": 1, "pid": 5, "in_flight": 1, "requests": 2, "state": "running", "restarts": 4}
    row = {"front": 1, "pid": 11, "in_flight": 1, "requests": 2, "clients": 1}
    one = {"requests": 2, "held_bytes": 7, "workers": [worker], "fronts": [row], "uptime_ms": 5, "stopping": False}
    two = one | {"workers": [worker | {"pid": 0}], "fronts": [], "uptime_ms": 9}
    both = merged(front, [one, two])
    assert (both["requests"], both["held_bytes"], both["uptime_ms"], both["stopping"]) == (4, 14, 9, False)
    assert both["workers"] == [worker | {"in_flight": 2, "requests": 4}]
    assert [(row["front"], row["pid"], row["state"], row["restarts"]) for row in both["fronts"]] == [
        (1, 11, "running", 0),
        (2, 0, "backoff", 3),
    ]
    loop.close()


# -- a daemon with several


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_daemon(fronts=FRONTS, workers=2)


def test_callers_land_on_several_fronts(daemon: Daemon, nginx: Nginx) -> None:
    with Callers(daemon, FRONTS) as wires:
        for wire in wires:
            wire.send(*([0, n, "query", [nginx.url, {"xdata": n}]] for n in range(100)))
        ids = []
        for wire in wires:
            replies = [wire.receive()[3] for _ in range(100)]
            assert sorted(reply["xdata"] for reply in replies) == list(range(100))
            assert {reply["ok"] for reply in replies} == {1}
            ids += [reply["id"] for reply in replies]
        assert len(set(ids)) == 100 * FRONTS
        assert len({id_.partition("-")[0] for id_ in ids}) == FRONTS
    stats = daemon.wait_idle()
    assert (stats["requests"], stats["replies"]) == (100 * FRONTS, 100 * FRONTS)
    assert [row["requests"] for row in stats["fronts"]] == [100] * FRONTS
    assert sum(row["requests"] for row in stats["workers"]) == 100 * FRONTS


@pytest.fixture
def origin(start_origin: StartOrigin) -> RawOrigin:
    made = start_origin(lambda sock, head: answer(sock, head) if made.release.wait(20) else None)
    return made


def test_a_front_that_is_killed_costs_its_own_callers_alone(daemon: Daemon, origin: RawOrigin, nginx: Nginx) -> None:
    with Callers(daemon, FRONTS) as wires:
        one, two, three = wires
        for wire in wires:
            wire.send(*([0, n, "query", [origin.url, {"timeout": 20_000, "xdata": n}]] for n in range(20)))
        wait_for("all of them", lambda: len(origin.heads) == 20 * FRONTS)
        victim = daemon.pid("front 2")
        os.kill(victim, signal.SIGKILL)
        assert two.receive() is None
        wait_for("its transfers to be called off", lambda: "20 transfers called off" in daemon.log)
        with dial(daemon, wait_for("the next", lambda: other_pid(daemon, "front 2", victim))) as again:
            # Its ids begin anew, while the others' are in flight at the same workers.
            again.send(*([0, n, "query", [nginx.url, {"xdata": n}]] for n in range(20)))
            replies = [again.receive()[3] for _ in range(20)]
            assert {(reply["ok"], reply["rs"]) for reply in replies} == {(1, 200)}
            assert sorted(reply["xdata"] for reply in replies) == list(range(20))
            origin.release.set()
            for wire in (one, three):
                replies = [wire.receive()[3] for _ in range(20)]
                assert sorted(reply["xdata"] for reply in replies) == list(range(20))
                assert {reply["rb"] for reply in replies} == {b"ok"}
    stats = daemon.wait_idle()
    assert (stats["requests"], stats["replies"], stats["late"]) == (60, 60, 0)
    assert [row["restarts"] for row in stats["fronts"]] == [0, 1, 0]


def other_pid(daemon: Daemon, name: str, than: int) -> int:
    """The pid of that process, once it is another."""
    pid = daemon.pid(name)
    return pid if pid != than else 0


def test_fronts_are_killed_under_load(daemon: Daemon, nginx: Nginx) -> None:
    """Nobody at the others loses anything."""
    with Callers(daemon, FRONTS) as wires:
        stays = wires[0]
        for number in range(4):
            stays.send(*([0, n, "query", [nginx.url, {"timeout": 20_000, "xdata": n}]] for n in range(500)))
            os.kill(daemon.pid(f"front {2 + number % 2}"), signal.SIGKILL)
            replies = [stays.receive() for _ in range(500)]
            assert sorted(reply[1] for reply in replies) == list(range(500))
            assert {reply[3]["ok"] for reply in replies} == {1}
            assert all(reply[1] == reply[3]["xdata"] for reply in replies)
        for wire in wires[1:]:
            assert wire.receive() is None
    daemon.wait_idle()


def test_a_worker_that_is_killed(daemon: Daemon, origin: RawOrigin) -> None:
    """What each front had there goes to the other worker, or ends."""
    with Callers(daemon, FRONTS) as wires:
        for wire in wires:
            wire.send(*([0, n, "query", [origin.url, {"timeout": 20_000}]] for n in range(5)))
            wire.send(*([0, n, "query", [origin.url, {"timeout": 20_000, "method": "POST"}]] for n in range(5, 8)))
        wait_for("all of them", lambda: len(origin.heads) == 8 * FRONTS)
        busy = {row["pid"]: row["in_flight"] for row in daemon.stats()["workers"]}
        assert sum(busy.values()) == 8 * FRONTS
        victim = max(busy, key=lambda pid: busy[pid])
        os.kill(victim, signal.SIGKILL)
        homes = busy[victim] // 8  # fronts that gave it all that they had
        wait_for("their second time", lambda: len(origin.heads) == 8 * FRONTS + 5 * homes)
        origin.release.set()
        ends = [wire.receive()[3] for wire in wires for _ in range(8)]
        assert sum(reply["ok"] for reply in ends) == 8 * FRONTS - 3 * homes
        assert {reply["err"] for reply in ends} == {None, "worker lost"}
    stats = daemon.wait_idle()
    assert (stats["requests"], stats["errors"], stats["retried"]) == (8 * FRONTS, 3 * homes, 5 * homes)


def test_a_stuck_worker_is_killed_once(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(fronts=FRONTS, workers=2, worker_timeout=1000)
    daemon.tolerate.add(" ERROR ")
    victim = daemon.pid("worker 1")
    os.kill(victim, signal.SIGSTOP)
    wait_for("its successor", lambda: other_pid(daemon, "worker 1", victim))
    assert daemon.log.count(f"worker 1 [{victim}] does not answer") == 1
    assert daemon.log.count(f"worker 1 [{victim}] is stopped: killed") == 1
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1


def test_a_front_that_hangs_is_replaced_and_the_others_answer(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(fronts=FRONTS, workers=2, front_timeout=2000)
    daemon.tolerate.add(" ERROR ")
    with Callers(daemon, FRONTS) as wires:
        victim = daemon.pid("front 3")
        os.kill(victim, signal.SIGSTOP)
        stats = wires[0].call("stats", [])[1]
        assert [row["clients"] > 0 for row in stats["fronts"]] == [True, True, False]
        assert stats["fronts"][2]["pid"] == victim
        assert "figures: front 3 does not answer: it is left out" in daemon.log
        assert wires[1].call("query", [nginx.url])[1]["ok"] == 1
        wait_for("its successor", lambda: other_pid(daemon, "front 3", victim))
        assert f"front 3 [{victim}] has not turned for 2000 ms (front_timeout)" in daemon.log
        wait_for("it to be asked again", lambda: wires[0].call("stats", [])[1]["fronts"][2]["state"] == "running")
    daemon.wait_idle()


def test_one_that_cannot_live_is_given_up_and_the_others_serve(
    start_daemon: StartDaemon, nginx: Nginx, tmp_path: Path
) -> None:
    with Manager(str(tmp_path / "notify")) as manager:
        daemon = start_daemon(fronts=2, workers=1, variables={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        daemon.give_up("front 2", lambda: manager.messages)  # or what comes next has no room
        manager.wait_for_status("ready: 0 in flight, 0 requests, 0 replies, 0 errors, 0 timeouts; front 2: fatal")
        with daemon.client() as client:
            assert client.query(nginx.url).ok == 1
            assert [row["state"] for row in client.stats()["fronts"]] == ["running", "fatal"]
        daemon.process.send_signal(signal.SIGHUP)  # a reload tries again
        wait_for("it to live", lambda: daemon.stats()["fronts"][1]["state"] == "running")
        assert manager.of("READY")[0] == "1"


def test_a_worker_drains_although_a_front_is_given_up(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """What has no process does not say that it sends no more jobs."""
    daemon = start_daemon(fronts=2, workers=1)
    daemon.give_up("front 2")
    worker = daemon.pid("worker 1")
    os.kill(worker, signal.SIGTERM)
    wait_for("the next", partial(other_pid, daemon, "worker 1", worker))
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1


# -- ready, drain, end


def test_ready_and_watchdog(start_daemon: StartDaemon, tmp_path: Path) -> None:
    with Manager(str(tmp_path / "notify")) as manager:
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        daemon = start_daemon(fronts=2, workers=2, variables=told, front_timeout=60_000)
        manager.wait_for("READY", "1")
        manager.wait_for("WATCHDOG", "1")
        assert manager.of("READY") == ["1"]
        pid = daemon.pid("front 2")
        os.kill(pid, signal.SIGSTOP)
        before = len(manager.messages)
        # One that was on its way may still come; while one front hangs, no further one does.
        wait_for("silence", lambda: manager.silent(1.5))
        assert manager.messages[before:].count({"WATCHDOG": "1"}) <= 1
        os.kill(pid, signal.SIGCONT)
        manager.wait_for("WATCHDOG", "1", len(manager.messages))


def stopping(wire: Wire) -> bool:
    """Whether the front at its other end drains."""
    return bool(wire.call("stats", [], 9)[1]["stopping"])


def test_drain_ends_all(daemon: Daemon, origin: RawOrigin) -> None:
    with Callers(daemon, FRONTS) as wires:
        for wire in wires[1:]:
            wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("both", lambda: len(origin.heads) == 2)
        assert wires[0].call("stop", [])[1] is True
        # The first has nothing in flight; the workers stay as long as another has.
        assert wires[0].receive() is None
        for wire in wires[1:]:
            wait_for("it to know", partial(stopping, wire))
            wire.send([0, 2, "query", [origin.url, {}]])
            assert wire.receive()[2]["code"] == "stopping"
        origin.release.set()
        assert [wire.receive()[3]["ok"] for wire in wires[1:]] == [1, 1]
        assert daemon.process.wait(20) == 0
    assert not [path for path in daemon.directory.iterdir() if path.is_socket()]


def test_a_worker_that_drains_says_goodbye_to_each(daemon: Daemon, origin: RawOrigin, nginx: Nginx) -> None:
    with Callers(daemon, FRONTS) as wires:
        for wire in wires:
            wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("all", lambda: len(origin.heads) == FRONTS)
        victims = [daemon.pid("worker 1"), daemon.pid("worker 2")]
        for victim in victims:
            os.kill(victim, signal.SIGTERM)
        origin.release.set()
        assert [wire.receive()[3]["ok"] for wire in wires] == [1] * FRONTS
        for number, victim in enumerate(victims, 1):
            wait_for("the next", partial(other_pid, daemon, f"worker {number}", victim))
        assert [wire.call("query", [nginx.url])[1]["ok"] for wire in wires] == [1] * FRONTS
    assert daemon.stats()["errors"] == 0


def test_socket_activation(tmp_path: Path, nginx: Nginx) -> None:
    with listening(tmp_path / "hacd.sock") as sock:
        daemon = Daemon(tmp_path, activated=sock, fronts=2, workers=1).wait_ready()
        with Callers(daemon, 2) as wires:
            assert [wire.call("ping", [])[1]["activated"] for wire in wires] == [True, True]
            assert [wire.call("query", [nginx.url])[1]["ok"] for wire in wires] == [1, 1]
        daemon.close()


# -- bounds, and what each front has of its own


def test_limits_are_shared_out(start_daemon: StartDaemon, origin: RawOrigin) -> None:
    daemon = start_daemon(fronts=2, workers=1, max_transactions=5, max_clients=1000)
    with Callers(daemon, 2) as wires:
        for wire in wires:
            wire.send(*([0, n, "query", [origin.url, {"timeout": 20_000}]] for n in range(3)))
            assert wire.receive()[2] == {"code": "busy", "message": "max_transactions (2) are in flight"}
        origin.release.set()
        assert [wire.receive()[3]["ok"] for wire in wires for _ in range(2)] == [1] * 4


def test_routes_are_loaded_in_each(routes: StartRoutes) -> None:
    text = '@route("WHO")\ndef who(tx):\n    import os\n    return os.getpid()\n'
    daemon = routes(text, fronts=2, workers=1)
    with Callers(daemon, 2) as wires:
        assert [wire.call("run", ["WHO"])[1] for wire in wires] == front_pids(daemon, 2)


def test_a_body_in_shared_memory_goes_back_where_it_came_from(
    start_daemon: StartDaemon, start_origin: StartOrigin
) -> None:
    size = 1 << 20
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    origin = start_origin(lambda sock, _head: sock.sendall(reply))
    daemon = start_daemon(fronts=2, workers=1, shm_size=4 << 20)
    with Callers(daemon, 2) as wires:
        for _ in range(6):  # more than there is room for, if none were given back
            for wire in wires:
                assert len(wire.call("query", [origin.url])[1]["rb"]) == size
        assert daemon.stats()["shm_fallbacks"] == 0
    wait_for("all to be let go of", lambda: daemon.stats()["shm_used"] == 0)


def test_one_front_is_as_ever(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(fronts=1, workers=1)
    names = {path.name for path in daemon.directory.iterdir() if path.is_socket()}
    assert names == {"hacd.sock", "hacd.sock.workers"}
    (row,) = daemon.stats()["fronts"]
    assert (row["front"], row["pid"], row["state"], row["restarts"]) == (1, daemon.pid("front"), "running", 0)


def test_the_command_shows_the_fronts(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "hacd", "stats", "--socket", daemon.socket]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    pids = front_pids(daemon, FRONTS)
    rows = [line for line in lines if line.startswith("front ")]
    assert [row.split()[:3] for row in rows] == [["front", str(n), f"pid={pid}"] for n, pid in enumerate(pids, 1)]


def test_clients_dial_again(daemon: Daemon, nginx: Nginx) -> None:
    """A client of ours whose front is killed finds another."""
    with Client(daemon.socket) as client:
        os.kill(client.ping()["pid"], signal.SIGKILL)

        def answered() -> bool:
            try:
                return client.query(nginx.url).ok == 1
            except HacdError:
                return False

        wait_for("a reply", answered)
