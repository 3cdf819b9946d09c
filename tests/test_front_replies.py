"""Replies that cross from front to front, where something is in the way: each comes once, and to one who lives."""

from __future__ import annotations

import os
import select
import signal
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.fronts import Callers, dial, front_pids
from tests.support.origins import Nginx, RawOrigin, answer
from tests.support.waiting import PATIENCE, wait_for
from tests.support.wire import Wire

MIB = 1 << 20


@pytest.fixture
def origin(start_origin: StartOrigin) -> RawOrigin:
    made = start_origin(lambda sock, head: answer(sock, head) if made.release.wait(20) else None)
    return made


def register(taker: Wire, sender: Wire, nginx: Nginx) -> None:
    """Have `taker` take what comes for R at the sender's front."""
    taker.call("register", [["R"]])

    def takes() -> bool:
        sender.call("send", [nginx.url, {"route": "R", "xdata": "first"}], 77)
        ready, _, _ = select.select([sender.sock, taker.sock], [], [], PATIENCE)
        wire = taker if taker.sock in ready else sender
        assert wire.receive()[2][0]["xdata"] == "first"
        return wire is taker

    wait_for("it to be known", takes)


def send_and_leave(sender: Wire, origin: RawOrigin, count: int) -> None:
    """Queries whose replies are for whoever takes R; all are at the origin, which holds them."""
    sender.send(*([2, "send", [origin.url, {"route": "R", "xdata": n, "timeout": 20_000}]] for n in range(count)))
    sender.call("ping", [])
    sender.sock.close()
    wait_for("all", lambda: len(origin.heads) == count)


def takes_each(taker: Wire, count: int) -> None:
    """All of those come to him, once."""
    got: list[int] = []
    while len(got) < count:
        xdata = taker.receive()[2][0]["xdata"]
        if xdata != "first":  # of `register`, which asks again where the reply is late
            got.append(xdata)
    assert sorted(got) == list(range(count))
    taker.send([0, 1, "ping", []])
    while (message := taker.receive())[1] == "resume":
        assert message[2][0]["xdata"] == "first"
    assert message[:3] == [1, 1, None]


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_who_sends_and_leaves_loses_nothing(start_daemon: StartDaemon, nginx: Nginx, start_origin: StartOrigin) -> None:
    """More replies at once than can be offered at a time wait, since there is no sender to have them."""
    answered: list[bytes] = []

    def late(sock: socket.socket, head: bytes) -> None:
        if held.release.wait(20):
            answer(sock, head)
            answered.append(head)

    held = start_origin(late)
    daemon = start_daemon(fronts=2, workers=1)
    with Callers(daemon, 2) as (one, two):
        register(two, one, nginx)
        send_and_leave(one, held, 1000)
        pid = front_pids(daemon, 2)[0]
        os.kill(pid, signal.SIGSTOP)  # so that it finds all of them at once
        held.release.set()
        wait_for("all to be on their way", lambda: len(answered) == 1000)
        os.kill(pid, signal.SIGCONT)
        takes_each(two, 1000)
        wait_for("the last yes", lambda: two.call("stats", [])[1]["held_bytes"] == 0)
        assert two.call("stats", [])[1]["undelivered"] == 0


def test_who_left_waits_for_a_front_that_hangs(start_daemon: StartDaemon, nginx: Nginx, origin: RawOrigin) -> None:
    daemon = start_daemon(fronts=2, workers=1)
    with Callers(daemon, 2) as (one, two):
        pids = front_pids(daemon, 2)
        register(two, one, nginx)
        send_and_leave(one, origin, 500)
        os.kill(pids[1], signal.SIGSTOP)
        origin.release.set()
        with dial(daemon, pids[0]) as other:
            wait_for("all to have ended", lambda: other.call("stats", [])[1]["in_flight"] == 0)
            other.call("stats", [])  # it was asked after the replies, and its time is over
            os.kill(pids[1], signal.SIGCONT)
            takes_each(two, 500)
            assert other.call("stats", [])[1]["undelivered"] == 0


def test_who_stayed_does_not_wait_behind_those_who_left(
    start_daemon: StartDaemon, nginx: Nginx, origin: RawOrigin
) -> None:
    """Theirs wait for the front that hangs, and have all tickets; he waits a second all the same."""
    daemon = start_daemon(fronts=2, workers=1, front_timeout=60_000)
    with Callers(daemon, 2) as (one, two):
        pids = front_pids(daemon, 2)
        register(two, one, nginx)
        send_and_leave(one, origin, 500)
        os.kill(pids[1], signal.SIGSTOP)
        with dial(daemon, pids[0]) as other:
            for n in range(20):  # his come behind theirs
                other.send([2, "send", [origin.url, {"route": "R", "xdata": f"his {n}", "timeout": 20_000}]])
            origin.release.set()
            assert {other.receive()[2][0]["xdata"] for _ in range(20)} == {f"his {n}" for n in range(20)}
            os.kill(pids[1], signal.SIGCONT)
            takes_each(two, 500)


def test_a_front_that_hangs_costs_no_descriptors(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Nor time: once it is known to be silent, its takers get no more, and the senders have theirs at once."""
    daemon = start_daemon(fronts=2, workers=1, front_timeout=60_000)
    with Callers(daemon, 2) as (one, two):
        pids = front_pids(daemon, 2)
        register(two, one, nginx)
        before = descriptors(pids[0])
        os.kill(pids[1], signal.SIGSTOP)
        for _ in range(8):
            one.send(*([2, "send", [nginx.url, {"route": "R"}]] for _ in range(300)))
            for _ in range(300):
                assert one.receive()[1] == "resume"
        assert descriptors(pids[0]) - before < 300
        os.kill(pids[1], signal.SIGCONT)
        wait_for("it to be back", lambda: one.call("stats", [])[1]["fronts"][1]["clients"] > 0)
        register(two, one, nginx)  # it takes again


def test_one_who_has_gone_is_followed_by_the_next(start_daemon: StartDaemon, nginx: Nginx, origin: RawOrigin) -> None:
    """His front says no: another front's taker gets it, and not nobody."""
    daemon = start_daemon(fronts=3, workers=1)
    with Callers(daemon, 3) as (one, two, three):
        pids = front_pids(daemon, 3)
        register(two, one, nginx)
        send_and_leave(one, origin, 40)
        os.kill(pids[1], signal.SIGSTOP)
        two.sock.close()
        origin.release.set()
        with dial(daemon, pids[0]) as other:
            wait_for("all to have ended", lambda: other.call("stats", [])[1]["in_flight"] == 0)
            # All are offered to the one that hangs, which is found to be silent before this one comes.
            other.call("stats", [])
            three.call("register", [["R"]])
            os.kill(pids[1], signal.SIGCONT)
            takes_each(three, 40)
            assert other.call("stats", [])[1]["undelivered"] == 0


def test_what_is_offered_leaves_room_in_max_memory(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """It is 3/4 of it at the most: what bystanders have not read yet is not cut off for it."""
    (nginx.files / "mib").write_bytes(b"x" * MIB)
    daemon = start_daemon(fronts=2, workers=1, max_memory=64 * MIB, front_timeout=60_000)
    with Callers(daemon, 2) as (one, two):
        pids = front_pids(daemon, 2)
        register(two, one, nginx)
        with dial(daemon, pids[0]) as bystander:
            bystander.send(*([0, n, "query", [f"{nginx.url}/file/mib"]] for n in range(2)))
            wait_for("it not to read", lambda: one.call("stats", [])[1]["held_bytes"] > MIB)
            os.kill(pids[1], signal.SIGSTOP)
            # 24 MiB can be offered, and come back when that front is found to be silent; the front has 32.
            one.send(*([2, "send", [f"{nginx.url}/file/mib", {"route": "R"}]] for _ in range(26)))
            assert [len(one.receive()[2][0]["rb"]) for _ in range(26)] == [MIB] * 26
            assert [len(bystander.receive()[3]["rb"]) for _ in range(2)] == [MIB, MIB]
        os.kill(pids[1], signal.SIGCONT)


# -- the end


def test_a_drain_waits_for_what_others_have_for_its_takers(
    start_daemon: StartDaemon, nginx: Nginx, origin: RawOrigin
) -> None:
    daemon = start_daemon(fronts=2, workers=1)
    with Callers(daemon, 2) as (one, two):
        register(two, one, nginx)
        send_and_leave(one, origin, 20)
        daemon.process.send_signal(signal.SIGTERM)
        wait_for("the front to know", partial(stops, two))
        origin.release.set()
        got = [two.receive()[2][0]["xdata"] for _ in range(20)]
        assert sorted(got) == list(range(20))
        assert two.receive() is None
        assert daemon.process.wait(20) == 0


def stops(wire: Wire) -> bool:
    """Whether the front at its other end drains."""
    return bool(wire.call("stats", [], 9)[1]["stopping"])


def test_takers_hold_no_front_that_ends_alone(start_daemon: StartDaemon, origin: RawOrigin) -> None:
    daemon = start_daemon(fronts=2, workers=1, drain_timeout=30_000)
    with Callers(daemon, 2) as (one, two):
        two.call("register", [["R"]])
        one.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("it", lambda: origin.heads)
        os.kill(daemon.pid("front 2"), signal.SIGTERM)
        assert two.receive() is None
        origin.release.set()
        assert one.receive()[3]["ok"] == 1


def test_a_front_that_ends_alone_leaves_who_dials_to_others(daemon_of_two: Daemon, origin: RawOrigin) -> None:
    with Callers(daemon_of_two, 2) as (_, two):
        two.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("it", lambda: origin.heads)
        os.kill(daemon_of_two.pid("front 2"), signal.SIGTERM)
        wait_for("it to know", partial(stops, two))
        for _ in range(30):
            with Wire(daemon_of_two.socket) as wire:
                assert wire.call("stats", [])[1]["stopping"] is False
        # Now all of it ends, and who dials is told so, by whichever.
        daemon_of_two.process.send_signal(signal.SIGTERM)
        wait_for("it to be told", partial(refuses, daemon_of_two, origin))
        origin.release.set()
        assert two.receive()[3]["ok"] == 1


def refuses(daemon: Daemon, origin: RawOrigin) -> bool:
    with Wire(daemon.socket) as wire:
        error, _ = wire.call("query", [origin.url, {"timeout": 100}])
        return bool(error) and error["code"] == "stopping"


@pytest.fixture
def daemon_of_two(start_daemon: StartDaemon) -> Daemon:
    return start_daemon(fronts=2, workers=1, drain_timeout=20_000)
