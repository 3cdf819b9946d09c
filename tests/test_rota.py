"""What all callers together may take of one turn of the front's loop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import closing

import msgpack
import pytest

from hacd import rpc
from hacd.errors import BadRequest
from hacd.front.front import EXPIRIES, STORM
from hacd.front.peers.later import Later
from hacd.front.rota import SHARE, Postponed, Rota
from hacd.query import parse
from tests.conftest import StartDaemon, StartOrigin
from tests.support.front import Rig
from tests.support.waiting import wait_for
from tests.support.wire import Wire


class Clock:
    """ns, as they are set."""

    def __init__(self) -> None:
        self.now = 1

    def __call__(self) -> int:
        return self.now


def test_there_is_room_until_the_share_is_gone() -> None:
    clock = Clock()
    rota = Rota(clock)
    clock.now = 10 * SHARE  # a long wait before the first is not theirs
    assert rota.has_room()
    clock.now += SHARE
    assert rota.has_room()
    clock.now += 1
    assert not rota.has_room()
    rota.turn()
    clock.now += 10 * SHARE
    assert rota.has_room()


def test_who_was_left_out_comes_first_and_who_has_more_comes_last() -> None:
    """Each takes all of the share, and always wants more."""
    clock, came = Clock(), []
    rota = Rota(clock)

    def caller(name: str) -> Callable[[], None]:
        def go_on() -> None:
            came.append(name)
            clock.now += SHARE + 1
            rota.later(go_on)

        return go_on

    for name in "abc":
        rota.later(caller(name))
    for _ in range(6):
        rota.turn()
    assert came == list("abcabc")
    assert rota.waiting


def test_who_waits_already_waits_once() -> None:
    rota, came = Rota(Clock()), []

    def go_on() -> None:
        came.append(1)

    rota.later(go_on)
    rota.later(go_on)
    rota.turn()
    rota.turn()
    assert came == [1]
    assert not rota.waiting


def test_one_long_call_in_a_turn_and_each_caller_in_his() -> None:
    rota, made = Rota(Clock()), []

    def caller(name: str) -> Callable[[], None]:
        def go_on() -> None:
            try:
                rota.take_long()
                made.append(name)
                rota.take_long()
            except Postponed:
                rota.long_later(go_on)

        return go_on

    for name in "abc":
        caller(name)()
    assert made == ["a"]
    for _ in range(5):
        rota.turn()
    assert made == list("aabcab")  # he was the first to wait, too


CALLERS, IN_FLIGHT, CALLS = 60, 60_000, 20


def test_many_callers_do_not_hold_the_loop_together(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """Each keeps to his own budget. In one turn they would take seconds, and a watched front would be killed for it."""
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(max_host_connections=1, front_timeout=1000)
    front = daemon.pid("front")
    calls = b"".join(msgpack.packb([0, n, "transactions", []]) for n in range(CALLS))
    query = msgpack.packb([2, "send", [origin.url, {"timeout": 600_000}]])
    with Wire(daemon.socket) as busy, daemon.client() as neighbour:
        busy.raw(query * IN_FLIGHT)
        wait_for("all in flight", lambda: neighbour.stats()["in_flight"] == IN_FLIGHT)
        wires = [Wire(daemon.socket) for _ in range(CALLERS)]
        begin = time.monotonic()
        for wire in wires:
            wire.raw(calls)
        neighbour.ping()
        assert time.monotonic() - begin < 2
        for wire in wires:
            wire.sock.close()
    assert daemon.pid("front") == front
    assert "has not turned" not in daemon.log


@pytest.mark.parametrize(("tick", "left"), [(0, 0), (STORM, 3 * EXPIRIES)], ids=["in time", "slow"])
def test_deadlines_have_a_share_of_their_own(monkeypatch: pytest.MonkeyPatch, tick: int, left: int) -> None:
    """With 256 of them in a turn, callers who kept it long had those of all others met half a minute late."""
    with closing(Rig()) as rig:
        (session,) = rig.front.sessions
        for msgid in range(4 * EXPIRIES):
            session.transactions[msgid] = rig.front.suspend(session, msgid, parse(["http://127.0.0.1/"]))
        clock = itertools.count(time.monotonic_ns(), tick) if tick else itertools.repeat(time.monotonic_ns())
        monkeypatch.setattr(rig.front, "read_clock", lambda: next(clock))
        rig.front._due(list(rig.front.transactions))
        rig.front.turn()
        assert len(session.transactions) == left


def test_a_call_that_was_answered_late_keeps_its_number_until_then() -> None:
    """Another of that number would be ended by its answer."""
    with closing(Rig()) as rig:
        (session,) = rig.front.sessions
        rota = rig.front.rota
        later = Later()
        later.give(["all"])
        rota._ends = 1  # the share is gone
        session._wait(7, later)
        with pytest.raises(BadRequest, match="msgid 7"):
            session._new(7)
        rig.turn()
        assert rpc.unpack(rig.theirs.recv(4096)) == [rpc.RESPONSE, 7, None, ["all"]]
        session._new(7)
