"""What callers can make fronts ask each other: however much it is, it holds no front, and others get their answers."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.fronts import Callers, dial, front_pids
from tests.support.origins import RawOrigin, answer
from tests.support.stranger import needs_root, stranger
from tests.support.waiting import wait_for
from tests.support.wire import Wire

#: what tells that all before it was heard
PING = msgpack.packb([0, 99, "ping", []])

ROUTES = [f"r{n:03}{'x' * 250}" for n in range(256)]


@pytest.fixture
def origin(start_origin: StartOrigin) -> RawOrigin:
    made = start_origin(lambda sock, head: answer(sock, head) if made.release.wait(20) else None)
    return made


@contextmanager
def crowd(daemon: Daemon, pid: int, count: int) -> Iterator[list[Wire]]:
    """So many callers at that front."""
    with ExitStack() as stack:
        yield [stack.enter_context(dial(daemon, pid)) for _ in range(count)]


def swallow(wire: Wire, came: dict[Wire, int]) -> None:
    """Read what comes, and mind none of it but how much it is, until the connection ends."""
    wire.sock.settimeout(None)
    with suppress(OSError):
        while data := wire.sock.recv(1 << 20):
            came[wire] += len(data)


def test_an_answer_that_thousands_wait_for_does_not_hold_the_front(
    start_daemon: StartDaemon, origin: RawOrigin
) -> None:
    """It would be killed as one that hangs."""
    daemon = start_daemon(fronts=2, workers=1, front_timeout=1000)
    daemon.tolerate.add(" ERROR ")  # of the other one, which hangs
    one, two = front_pids(daemon, 2)
    with Callers(daemon, 2) as wires, crowd(daemon, one, 40) as callers, dial(daemon, one) as other:
        url = f"{origin.url}/{'u' * 200}"
        wires[0].send(*([0, n, "query", [url, {"timeout": 20_000}]] for n in range(1000)))
        wait_for("all to be there", lambda: other.call("stats", [])[1]["in_flight"] == 1000)
        os.kill(two, signal.SIGSTOP)
        for caller in callers:
            caller.send(*([0, n, "transactions", []] for n in range(64)))
        came = dict.fromkeys(callers, 0)
        readers = [threading.Thread(target=swallow, args=(caller, came)) for caller in callers]
        for reader in readers:
            reader.start()
        # All wait for one answer, and get it when the other front's time is over: 2560 times 300 KB.
        while min(came.values()) < 64 * 250_000:
            assert other.call("ping", [])[1]["pid"] == one
        assert daemon.pid("front 1") == one
        with suppress(ProcessLookupError):
            os.kill(two, signal.SIGCONT)
        for caller in callers:
            caller.sock.shutdown(2)
        for reader in readers:
            reader.join(20)
        origin.release.set()


def test_who_cancels_by_the_thousand_keeps_nobody_from_it(start_daemon: StartDaemon, origin: RawOrigin) -> None:
    """His are true, however many others wait for what is none."""
    daemon = start_daemon(fronts=2, workers=1)
    pids = front_pids(daemon, 2)
    with Callers(daemon, 2) as (_, two), crowd(daemon, pids[0], 70) as callers, dial(daemon, pids[0]) as other:
        sent = two.call("send", [origin.url, {"timeout": 20_000}])[1]["id"]
        wrong = f"{sent.partition('-')[0]}-zzz"
        os.kill(pids[1], signal.SIGSTOP)
        for caller in callers:
            caller.raw(b"".join(msgpack.packb([0, n, "cancel", [wrong]]) for n in range(64)) + PING)
        for caller in callers:
            assert caller.receive()[:2] == [1, 99]  # the 64 before it are asked for
        other.raw(msgpack.packb([0, 1, "cancel", [sent]]) + PING)
        assert other.receive()[:2] == [1, 99]
        os.kill(pids[1], signal.SIGCONT)
        assert other.receive() == [1, 1, None, True]
        assert two.receive()[2][0]["code"] == 42
        for caller in callers:
            assert [caller.receive()[3] for _ in range(64)] == [False] * 64


def test_notifications_wait_for_their_turn_as_calls_do(start_daemon: StartDaemon, origin: RawOrigin) -> None:
    """They want no response, but the other front has to answer each."""
    daemon = start_daemon(fronts=2, workers=1)
    pids = front_pids(daemon, 2)
    with Callers(daemon, 2) as (one, two), dial(daemon, pids[0]) as other:
        sent = two.call("send", [origin.url, {"timeout": 20_000}])[1]["id"]
        wrong = f"{sent.partition('-')[0]}-zzz"
        os.kill(pids[1], signal.SIGSTOP)
        one.raw(msgpack.packb([2, "cancel", [wrong]]) * 100 + msgpack.packb([2, "cancel", [sent]]) + PING)
        for _ in range(2):  # by then that front has read all of it
            other.call("ping", [])
        assert select.select([one.sock], [], [], 0) == ([], [], [])
        os.kill(pids[1], signal.SIGCONT)
        assert one.receive()[:2] == [1, 99]
        assert two.receive()[2][0]["code"] == 42


def test_cancel_at_a_front_that_does_not_answer(start_daemon: StartDaemon, origin: RawOrigin) -> None:
    """It is not false: the query may be in flight."""
    daemon = start_daemon(fronts=2, workers=1)
    with Callers(daemon, 2) as (one, two):
        sent = two.call("send", [origin.url, {"timeout": 20_000}])[1]["id"]
        pid = front_pids(daemon, 2)[1]
        os.kill(pid, signal.SIGSTOP)
        error, _ = one.call("cancel", [sent])
        assert error == {"code": "busy", "message": "cancel: front 2, which has that query, does not answer"}
        os.kill(pid, signal.SIGCONT)
        assert two.receive()[2][0]["code"] == 42


def test_what_is_no_id_is_no_question(start_daemon: StartDaemon, origin: RawOrigin) -> None:
    daemon = start_daemon(fronts=2, workers=1)
    with Callers(daemon, 2) as (one, two):
        sent = two.call("send", [origin.url, {"timeout": 20_000}])[1]["id"]
        os.kill(front_pids(daemon, 2)[1], signal.SIGSTOP)
        # The other front cannot say that it is none: this one does.
        assert one.call("cancel", [sent + "0" * (1 << 20)]) == (None, False)
        os.kill(front_pids(daemon, 2)[1], signal.SIGCONT)
        origin.release.set()


def test_what_is_registered_already_is_told_to_nobody(start_daemon: StartDaemon) -> None:
    """A call of 260 bytes was 65 KB for each other front."""
    daemon = start_daemon(fronts=2, workers=1, front_timeout=60_000)
    with Callers(daemon, 2) as (one, _):
        pids = front_pids(daemon, 2)
        assert one.call("register", [ROUTES])[1] is True
        os.kill(pids[1], signal.SIGSTOP)
        before = resident(pids[0])
        for msgid in range(1000):
            assert one.call("register", [ROUTES[:1]], msgid)[1] is True
        assert resident(pids[0]) - before < 16_000
        os.kill(pids[1], signal.SIGCONT)


# -- what is no front

WRONG: list[Any] = [[5, 0, 0], [{}], 5]
NUMBERS: list[Any] = [[], "2", 2.0, 1, 3, None]
GARBAGE: list[Any] = [
    *([0, 1, method, params] for method in ("take", "cancel", "nonsense") for params in WRONG),
    *([0, 1, "judge", params] for params in ([5, 5], ["set", []], ["reload", [5]])),
    *([2, "registered", params] for params in ([[], 0, ["R"]], [1, 0, [[]]], [1, 0, 5])),
    *([0, 1, [], []], [2, "left", []], [1, 2, 3, 4], 5, None, []),
]


def test_garbage_on_a_fronts_socket(start_daemon: StartDaemon) -> None:
    """It is the daemon's own user's, and costs the connection alone."""
    daemon = start_daemon(fronts=2, workers=1)
    daemon.tolerate.add(" ERROR ")
    pids = front_pids(daemon, 2)
    for value in ({}, *({"number": number} for number in NUMBERS), None, 5):
        with Wire(daemon.socket + ".front1") as wire:
            wire.send([0, "peer", value])
            assert wire.receive() is None
    for message in GARBAGE:
        with Wire(daemon.socket + ".front1") as wire:
            wire.send([0, "peer", {"number": 2, "pid": 1, "prefix": "x"}])
            assert wire.receive()[:2] == [2, "peer"]
            wire.send(message)
            assert wire.receive() is None, message
    assert front_pids(daemon, 2) == pids


@needs_root
def test_another_user_dials_no_fronts_socket(start_open_daemon: StartDaemon) -> None:
    daemon = start_open_daemon(fronts=2, workers=1)
    program = """
for name in ("front1", "front2"):
    try:
        socket.socket(socket.AF_UNIX).connect(f"{sys.argv[1]}.{name}")
    except OSError as error:
        print(error.strerror, flush=True)
"""
    with stranger(daemon.socket, program) as other:
        assert other.communicate()[0] == "Permission denied\n" * 2


def resident(pid: int) -> int:
    """KiB in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])
