"""What the fronts of one daemon ask and tell each other: `stats`, `cancel`, `register`, `set`, `reload`, `tail`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hacd.errors import BUSY, Refused
from hacd.front.peers.later import Later
from hacd.front.peers.offer import claim
from tests.conftest import StartDaemon, StartOrigin, StartRoutes
from tests.support.daemon import Daemon
from tests.support.fronts import Callers, dial
from tests.support.origins import Nginx, RawOrigin, answer
from tests.support.stranger import UID, needs_root, stranger
from tests.support.waiting import wait_for
from tests.support.wire import Wire

FRONTS = 3


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_daemon(fronts=FRONTS, workers=2)


@pytest.fixture
def wires(daemon: Daemon) -> Iterator[list[Wire]]:
    """A caller at each front."""
    with Callers(daemon, FRONTS) as wires:
        yield wires


@pytest.fixture
def origin(start_origin: StartOrigin) -> RawOrigin:
    made = start_origin(lambda sock, head: answer(sock, head) if made.release.wait(20) else None)
    return made


# -- what decides


def test_a_ticket_is_claimed_once_by_whichever_process() -> None:
    for _ in range(200):
        ticket = os.eventfd(1, os.EFD_NONBLOCK)
        pid = os.fork()
        if pid == 0:
            os._exit(claim(ticket))
        here = claim(ticket)
        there = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert here + there == 1
        assert not claim(ticket)
        os.close(ticket)


def test_an_answer_is_given_once() -> None:
    heard: list[tuple[Any, Refused | None]] = []
    for early in (True, False):
        later = Later()
        if early:
            later.give(1)
        later.then(lambda *answer: heard.append(answer))
        later.give(1)
        later.give(2)
        assert later.given
    assert heard == [(1, None), (1, None)]


def test_a_caller_who_has_gone_hears_nothing() -> None:
    heard: list[Any] = []
    later = Later()
    later.then(lambda *given: heard.append(given))
    later.caller_gone()
    later.give(None, Refused(BUSY, "x"))
    assert later.given
    assert not heard


# -- stats, transactions, cancel


def test_any_front_tells_of_all(wires: list[Wire], origin: RawOrigin, daemon: Daemon) -> None:
    for number, wire in enumerate(wires):
        wire.send(
            *([0, n, "query", [origin.url, {"timeout": 20_000, "route": f"R{number}"}]] for n in range(number + 1))
        )
    wait_for("all", lambda: len(origin.heads) == 6)
    for wire in wires:
        stats = wire.call("stats", [], 99)[1]
        assert (stats["in_flight"], stats["requests"], stats["clients"]) == (6, 6, 3)
        assert [row["in_flight"] for row in stats["fronts"]] == [1, 2, 3]
        assert sum(row["in_flight"] for row in stats["workers"]) == 6
        rows = wire.call("transactions", [], 99)[1]
        assert sorted(row["route"] for row in rows) == ["R0", "R1", "R1", "R2", "R2", "R2"]
        ages = [row["age_ms"] for row in rows]
        assert ages == sorted(ages, reverse=True)
        assert len({row["id"] for row in rows}) == 6
    origin.release.set()


def test_cancel_at_another_front(wires: list[Wire], origin: RawOrigin) -> None:
    _, sent = wires[0].call("send", [origin.url, {"timeout": 20_000}])
    assert wires[1].call("cancel", [sent["id"]]) == (None, True)
    assert wires[0].receive()[2][0]["code"] == 42
    assert wires[1].call("cancel", [sent["id"]]) == (None, False)
    assert wires[2].call("cancel", ["ffffff-1000000"]) == (None, False)
    wires[2].send([2, "cancel", [wires[0].call("send", [origin.url, {"timeout": 20_000}])[1]["id"]]])
    assert wires[0].receive()[2][0]["err"] == "cancelled"


@needs_root
def test_who_may_cancel_at_another_front(start_open_daemon: StartDaemon, origin: RawOrigin) -> None:
    daemon = start_open_daemon(fronts=2, workers=1)
    program = """
import time
print(call("ping", [])[1]["pid"], flush=True)
for line in sys.stdin:
    method, _, rest = line.strip().partition(" ")
    print(call(method, [rest] if rest else [])[1], flush=True)
"""
    with stranger(daemon.socket, program) as other, Callers(daemon, 2) as wires:
        assert other.stdout is not None
        assert other.stdin is not None

        def ask(text: str) -> str:
            print(text, file=other.stdin, flush=True)
            assert other.stdout is not None
            return other.stdout.readline().strip()

        pid = int(other.stdout.readline())
        elsewhere = next(wire for wire in wires if wire.call("ping", [])[1]["pid"] != pid)
        mine = elsewhere.call("send", [origin.url, {"timeout": 20_000}])[1]["id"]
        assert ask(f"cancel {mine}") == "False"
        assert f"cancel refused: the transaction is uid {os.getuid()}'s" in daemon.log
        assert f"caller uid {UID} pid {other.pid}: cancel refused" in daemon.log
        assert ask("transactions") == "[]"
        his = eval(ask(f"send {origin.url}"))["id"]  # what it printed is a map
        assert len(elsewhere.call("transactions", [])[1]) == 2
        assert elsewhere.call("cancel", [his]) == (None, True)  # root may
        elsewhere.send([2, "cancel", [mine]])
        assert elsewhere.receive()[2][0]["code"] == 42
        other.kill()


def test_msgids_keep_their_meaning(wires: list[Wire], origin: RawOrigin, nginx: Nginx) -> None:
    wire = wires[0]
    wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]], [0, 1, "stats", []])
    assert wire.receive()[:2] == [1, 1]  # refused: that number is in flight
    wire.send(*([0, n, "stats", []] for n in range(10, 20)), [0, 20, "ping", []])
    answers = [wire.receive() for _ in range(11)]
    assert sorted(answer[1] for answer in answers) == list(range(10, 21))
    assert all(answer[2] is None for answer in answers)
    wire.send([0, 30, "stats", []], [0, 30, "stats", []])
    first, second = wire.receive(), wire.receive()
    assert first[2]["code"] == "bad_request"
    assert second[2] is None
    wire.send([2, "cancel", [1]])
    assert wire.receive()[3]["code"] == 42


def test_callers_who_leave_before_they_are_answered(daemon: Daemon) -> None:
    with Callers(daemon, FRONTS):
        for _ in range(50):
            with Wire(daemon.socket) as wire:
                wire.send(*([0, n, "stats", []] for n in range(20)))
        wait_for("them to be gone", lambda: daemon.stats()["clients"] == FRONTS + 1)


# -- register, and who takes


def test_sent_at_one_front_and_taken_at_another(wires: list[Wire], nginx: Nginx) -> None:
    one, two, three = wires
    two.call("register", [["R"]])
    wait_for("it to be known", partial(taken, one, two, nginx))
    for number in range(20):
        sent = one.call("send", [nginx.url, {"route": "R", "xdata": number}], number)[1]
        reply = two.receive()[2][0]
        assert (reply["id"], reply["route"], reply["xdata"], reply["rs"]) == (sent["id"], "R", number, 200)
    # In turn: of two fronts each gets as many.
    three.call("register", [["R"]])
    wait_for("it to be known, too", partial(taken, one, three, nginx, two))
    for number in range(10):
        one.call("send", [nginx.url, {"route": "R", "xdata": number}], number)
    got = [[wire.receive()[2][0]["xdata"] for _ in range(5)] for wire in (two, three)]
    assert sorted(got[0] + got[1]) == list(range(10))
    stats = one.call("stats", [])[1]
    assert stats["undelivered"] == 0
    assert stats["held_bytes"] == 0


def taken(sender: Wire, taker: Wire, nginx: Nginx, *others: Wire) -> bool:
    """Whether the next reply goes to him, and not to its sender nor to any other."""
    sender.send([0, 77, "send", [nginx.url, {"route": "R"}]])
    assert sender.receive()[:2] == [1, 77]
    everybody = (sender, taker, *others)
    for wire in everybody:
        wire.sock.settimeout(0.01)
    try:
        while True:
            for wire in everybody:
                try:
                    assert wire.receive()[1] == "resume"
                except TimeoutError:
                    continue
                return wire is taker
    finally:
        for wire in everybody:
            wire.sock.settimeout(20)


def test_one_here_comes_first(wires: list[Wire], nginx: Nginx) -> None:
    one, two, _ = wires
    two.call("register", [["R"]])
    one.call("register", [["R"]])
    for number in range(5):
        one.call("send", [nginx.url, {"route": "R"}], number)
        assert one.receive()[1] == "resume"


def test_large_bodies_go_along(wires: list[Wire], start_origin: StartOrigin, nginx: Nginx) -> None:
    size = 3 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    origin = start_origin(lambda sock, _head: sock.sendall(head + b"x" * size))
    one, two, _ = wires
    two.call("register", [["R"]])
    wait_for("it to be known", partial(taken, one, two, nginx))
    for number in range(5):
        one.call("send", [origin.url, {"route": "R"}], number)
        assert two.receive()[2][0]["rb"] == b"x" * size
    stats = wait_for("all to be let go of", lambda: (s := one.call("stats", [])[1])["held_bytes"] == 0 and s)
    assert stats["shm_used"] == 0


def test_a_taker_that_has_gone_takes_nothing(daemon: Daemon, wires: list[Wire], nginx: Nginx) -> None:
    one, two, _ = wires
    two.call("register", [["R"]])
    wait_for("it to be known", partial(taken, one, two, nginx))
    two.sock.close()
    wait_for("it to be forgotten", lambda: daemon.stats()["clients"] == FRONTS)
    one.call("send", [nginx.url, {"route": "R"}])
    assert one.receive()[1] == "resume"


def stopped(daemon: Daemon, name: str) -> int:
    """Stop that process; its pid."""
    pid = daemon.pid(name)
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_the_taker_dies_in_that_moment(daemon: Daemon, wires: list[Wire], nginx: Nginx) -> None:
    """His front has the reply before it knows that he is gone."""
    one, two, _ = wires
    two.call("register", [["R"]])
    wait_for("it to be known", partial(taken, one, two, nginx))
    pid = stopped(daemon, "front 2")
    _, sent = one.call("send", [nginx.url, {"route": "R", "xdata": 5}])
    one.call("cancel", [sent["id"]], 2)  # it has ended, so or so, and is offered
    two.sock.close()
    os.kill(pid, signal.SIGCONT)
    assert one.receive()[2][0]["xdata"] == 5
    assert one.call("stats", [])[1]["undelivered"] == 0


def sent_to_one_that_hangs(daemon: Daemon, one: Wire, two: Wire, nginx: Nginx) -> int:
    """Five replies for one who has registered at front 2, which is stopped; its pid."""
    two.call("register", [["R"]])
    wait_for("it to be known", partial(taken, one, two, nginx))
    pid = stopped(daemon, "front 2")
    for number in range(5):
        one.call("send", [nginx.url, {"route": "R", "xdata": number}])
    return pid


def test_the_takers_front_dies_in_that_moment(daemon: Daemon, wires: list[Wire], nginx: Nginx) -> None:
    one, two, _ = wires
    pid = sent_to_one_that_hangs(daemon, one, two, nginx)
    os.kill(pid, signal.SIGKILL)
    assert sorted(one.receive()[2][0]["xdata"] for _ in range(5)) == list(range(5))
    assert two.receive() is None


def test_a_takers_front_that_hangs_takes_it_from_nobody_twice(daemon: Daemon, wires: list[Wire], nginx: Nginx) -> None:
    """Its time is over, and the sender has the reply; when it goes on, it finds that it was claimed."""
    one, two, _ = wires
    pid = sent_to_one_that_hangs(daemon, one, two, nginx)
    assert sorted(one.receive()[2][0]["xdata"] for _ in range(5)) == list(range(5))
    os.kill(pid, signal.SIGCONT)
    wait_for("it to be back", lambda: one.call("stats", [])[1]["fronts"][1]["clients"] > 0)
    # What comes next to the taker is not one of those.
    wait_for("the next", partial(taken, one, two, nginx))
    assert two.call("ping", [], 3)[0] is None
    stats = one.call("stats", [])[1]
    assert (stats["undelivered"], stats["held_bytes"]) == (0, 0)


def test_registrations_are_told_to_a_new_front(daemon: Daemon, wires: list[Wire], nginx: Nginx) -> None:
    one, two, _ = wires
    two.call("register", [["R"]])
    victim = daemon.pid("front 1")
    os.kill(victim, signal.SIGKILL)
    assert one.receive() is None
    pid = wait_for("the next", lambda: (pid := daemon.pid("front 1")) != victim and pid)
    with dial(daemon, pid) as again:
        wait_for("it to know", partial(taken, again, two, nginx))


@needs_root
def test_another_users_registration_takes_nothing(start_open_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_open_daemon(fronts=2, workers=1)
    program = (
        "print(call('ping', [])[1]['pid'], flush=True); print(call('register', [['R']])[1], flush=True); wire.recv(1)"
    )
    with stranger(daemon.socket, program) as other, Callers(daemon, 2) as wires:
        assert other.stdout is not None
        pid = int(other.stdout.readline())
        assert other.stdout.readline() == "True\n"
        for wire in wires:
            wire.call("send", [nginx.url, {"route": "R"}])
            assert wire.receive()[1] == "resume"
        # What he sends, root takes.
        (elsewhere,) = (wire for wire in wires if wire.call("ping", [])[1]["pid"] != pid)
        assert elsewhere.call("register", [["S"]])[1] is True
        other.kill()


def test_a_route_of_the_daemons_own_sends_to_one_who_registered_elsewhere(routes: StartRoutes, nginx: Nginx) -> None:
    text = '@route("SENDS")\ndef sends(tx):\n    return tx.http_async_send("ORIGIN/", "TAKEN")\n'
    daemon = routes(text.replace("ORIGIN", nginx.url), fronts=2, workers=1)
    with Callers(daemon, 2) as (one, two):
        two.call("register", [["TAKEN"]])

        def came() -> bool:
            one.call("run", ["SENDS"])
            two.sock.settimeout(0.2)
            try:
                return bool(two.receive()[2][0]["route"] == "TAKEN")
            except TimeoutError:
                return False  # it was not known yet, and the reply is undelivered

        wait_for("the reply", came)


def test_the_end_of_the_daemon_gives_back_what_is_offered(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(fronts=2, workers=1, drain_timeout=0)
    daemon.tolerate.add(" ERROR ")
    with Callers(daemon, 2) as (one, two):
        two.call("register", [["R"]])
        wait_for("it to be known", partial(taken, one, two, nginx))
        stopped(daemon, "front 2")
        one.call("send", [nginx.url, {"route": "R", "xdata": 1}])
        daemon.process.send_signal(signal.SIGTERM)
        assert one.receive()[2][0]["xdata"] == 1
        assert daemon.process.wait(20) == 0


# -- set and reload


def body_of(wire: Wire, nginx: Nginx) -> int:
    """curl's code of a query, whose body is longer than 1 byte."""
    return int(wire.call("query", [nginx.url])[1]["code"])


def test_set_holds_on_all(daemon: Daemon, wires: list[Wire], nginx: Nginx) -> None:
    assert wires[1].call("set", ["max_body", 1]) == (None, True)
    assert [body_of(wire, nginx) for wire in wires] == [63] * FRONTS
    error, _ = wires[2].call("set", ["max_body", -1])
    assert error["code"] == "bad_request"
    assert "max_body: -1 is wrong" in error["message"]
    assert (
        wires[0].call("set", ["fronts", 2])[0]["message"].startswith("set: hacd.fronts: it is read at the start only")
    )
    victim = daemon.pid("front 3")
    os.kill(victim, signal.SIGKILL)
    pid = wait_for("the next", lambda: (pid := daemon.pid("front 3")) != victim and pid)
    with dial(daemon, pid) as again:
        assert body_of(again, nginx) == 63
    assert daemon.log.count("limits.max_body is set to 1 by") == 1


def test_a_front_that_begins_while_settings_change(daemon: Daemon, wires: list[Wire]) -> None:
    """Whether it is asked yet, or hears it from the supervisor: it has what the others have."""
    victims = [daemon.pid("front 2"), daemon.pid("front 3")]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    size, most = 100_000, 0

    def both_are_back() -> bool:
        nonlocal size, most
        size += 1
        if wires[0].call("set", ["max_frame", size])[0] is None:  # else another front's change is under way
            most = size
        return not {daemon._pid("front 2"), daemon._pid("front 3")} & {0, *victims}

    wait_for("both", both_are_back)
    for name in ("front 1", "front 2", "front 3"):
        with dial(daemon, daemon.pid(name)) as wire:
            wait_for("it to have what holds", partial(has_frame, wire, most))


def has_frame(wire: Wire, size: int) -> bool:
    """Whether that is `max_frame` at the front at its other end."""
    return bool(wire.call("hello", [])[1]["max_frame"] == size)


def test_what_one_front_refuses_none_makes(daemon: Daemon, wires: list[Wire], nginx: Nginx) -> None:
    pid = stopped(daemon, "front 3")
    error, _ = wires[0].call("set", ["max_body", 1])
    assert error == {"code": "busy", "message": "set: front 3 does not answer: nothing is changed"}
    os.kill(pid, signal.SIGCONT)
    assert [body_of(wire, nginx) for wire in wires] == [0] * FRONTS
    assert wires[0].call("set", ["max_body", 1]) == (None, True)
    assert [body_of(wire, nginx) for wire in wires] == [63] * FRONTS


def test_two_changes_at_once(wires: list[Wire], nginx: Nginx) -> None:
    """Each is made by all or refused; and they leave all fronts alike."""
    for _ in range(10):
        for number, wire in enumerate(wires):
            wire.send([0, 1, "set", ["max_body", 1 + number]])
        ends = [wire.receive() for wire in wires]
        assert {error["code"] for _, _, error, _ in ends if error} <= {"busy"}
    assert wires[0].call("set", ["max_body", 1]) == (None, True)
    assert [body_of(wire, nginx) for wire in wires] == [63] * FRONTS


@pytest.mark.parametrize("by", ["call", "signal"])
def test_reload_holds_on_all(
    start_daemon: StartDaemon, tmp_path: Path, nginx: Nginx, by: str, write: Callable[[str], None]
) -> None:
    write("[limits]\nmax_body = 1\n")
    daemon = start_daemon(fronts=FRONTS, workers=1, config=tmp_path / "hacd.toml")
    daemon.tolerate.add(" ERROR ")
    with Callers(daemon, FRONTS) as wires:
        assert [body_of(wire, nginx) for wire in wires] == [63] * FRONTS
        write("[limits]\nmax_body = 100000\n")
        if by == "call":
            assert wires[1].call("reload", [])[1]["changed"] == ["limits.max_body"]
        else:
            daemon.process.send_signal(signal.SIGHUP)
            wait_for("all of them", lambda: daemon.log.count("reloaded by SIGHUP: changed limits.max_body") == FRONTS)
        assert [body_of(wire, nginx) for wire in wires] == [0] * FRONTS
        write("[limits]\nmax_body = 0\n")
        if by == "call":
            assert "max_body: 0 is wrong" in wires[1].call("reload", [])[0]["message"]
        else:
            daemon.process.send_signal(signal.SIGHUP)
            wait_for("all of them", lambda: daemon.log.count("reload refused") == FRONTS)
        assert [body_of(wire, nginx) for wire in wires] == [0] * FRONTS


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    """Writes the daemon's file of settings."""

    def write(text: str) -> None:
        (tmp_path / "hacd.toml").write_text(text)

    return write


def test_routes_are_loaded_by_all_or_by_none(routes: StartRoutes, tmp_path: Path) -> None:
    daemon = routes('@route("R")\ndef r(tx):\n    return 1\n', fronts=FRONTS, workers=1)
    daemon.tolerate.add(" ERROR ")
    with Callers(daemon, FRONTS) as wires:
        path = Path(wires[0].call("run", ["R"])[1] and next(tmp_path.glob("*.py")))
        path.write_text(path.read_text().replace("return 1", "return 2"))
        assert wires[0].call("reload", [])[0] is None
        assert [wire.call("run", ["R"])[1] for wire in wires] == [2] * FRONTS
        path.write_text("1 / 0\n")
        assert "ZeroDivisionError" in wires[1].call("reload", [])[0]["message"]
        assert [wire.call("run", ["R"])[1] for wire in wires] == [2] * FRONTS


# -- tail


def test_tail_sees_all(daemon: Daemon, wires: list[Wire]) -> None:
    everybody = {"supervisor", *(f"front {n}" for n in (1, 2, 3))}

    def sees(wire: Wire) -> bool:
        return everybody <= {event["process"] for event in wire.call("tail", [{"lines": 1000}])[1]}

    assert wires[0].call("set", ["log_level", "debug"])[0] is None
    for number, wire in enumerate(wires):
        assert wire.call("set", ["max_body", 1000 + number])[0] is None
    for wire in wires:
        wait_for("all of them", partial(sees, wire))


def test_lines_of_a_query_have_its_route_at_every_front(routes: StartRoutes, nginx: Nginx) -> None:
    """A worker tells only the front that knows the route, and that one tells the others: no line comes twice."""
    daemon = routes('@route("R")\ndef r(tx):\n    return 1\n', fronts=2, workers=1, curl_verbose=1)
    with Callers(daemon, 2) as wires:
        for wire in wires:
            reply = wire.call("query", [nginx.url, {"route": "LOGGED"}])[1]
            found = [lines_of(each, reply["id"]) for each in wires]
            assert found[0] == found[1]
            assert len(found[0]) == len(set(found[0])) > 5
            assert {route for route, _ in found[0]} == {"LOGGED"}


def lines_of(wire: Wire, id_: str) -> list[tuple[str, str]]:
    """Route and text of the lines of a query, once there are some, and no more come."""
    before: list[Any] = []

    def settled() -> bool:
        nonlocal before
        now = wire.call("tail", [{"lines": 1000, "id": id_}])[1]
        same, before = now == before, now
        return bool(now) and same

    wait_for("its lines", settled)
    return [(event["route"], event["message"]) for event in before]


def test_many_calls_at_once_are_answered_in_order_and_whole(wires: list[Wire], nginx: Nginx) -> None:
    """More than one caller may have under way; what one asked front tells is told to all who wait."""
    for wire in wires:
        assert wire.call("query", [nginx.url])[1]["ok"] == 1
    one = wires[0]
    frame = b"".join(msgpack.packb([0, msgid, "stats", []]) for msgid in range(1000))
    one.raw(frame)
    answers = [one.receive() for _ in range(1000)]
    assert [answer[1] for answer in answers] == list(range(1000))
    assert {answer[3]["requests"] for answer in answers} == {FRONTS}
    one.send(*([0, msgid, "cancel", ["ffffff-1"]] for msgid in range(500)), [0, 500, "ping", []])
    assert [one.receive()[1] for _ in range(501)] == list(range(501))


def test_a_stream_that_breaks_behind_them(wires: list[Wire]) -> None:
    one = wires[0]
    one.raw(b"".join(msgpack.packb([0, msgid, "stats", []]) for msgid in range(200)) + b"\xc1")
    answers = [one.receive() for _ in range(201)]
    assert [answer[1] for answer in answers] == [*range(200), None]
    assert answers[-1][2]["code"] == "bad_request"
    assert one.receive() is None
