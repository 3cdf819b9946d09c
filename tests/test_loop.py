"""One suite for both loops: what hacd asks of a loop, pyuv and uvloop do alike."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.support.origins import Nginx
from tests.support.waiting import wait_for

READABLE, WRITABLE = 1, 2


@pytest.fixture(params=["pyuv", "uvloop"])
def kind(request: pytest.FixtureRequest) -> Any:
    """The module with the loop and its handles."""
    pytest.importorskip(request.param)
    return import_module({"pyuv": "hacd.loop.uv", "uvloop": "hacd.loop.fallback"}[request.param])


@pytest.fixture
def loop(kind: Any) -> Iterator[Any]:
    loop = kind.Loop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    for sock in (a, b):
        sock.setblocking(False)
    yield a, b
    a.close()
    b.close()


def watchdog(kind: Any, loop: Any) -> Any:
    """A timer that ends a loop which nothing else ends."""

    def late(_timer: Any) -> None:
        raise AssertionError("the loop was not stopped")

    timer = kind.Timer(loop)
    timer.start(late, 20, 0)
    return timer


def test_poll_readable(kind: Any, loop: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    a, b = pair
    seen: list[tuple[int, Any, bytes]] = []

    def ready(handle: Any, events: int, error: Any) -> None:
        seen.append((events, error, a.recv(10)))
        handle.close()
        loop.stop()

    poll = kind.Poll(loop, a.fileno())
    poll.start(READABLE, ready)
    guard = watchdog(kind, loop)
    b.send(b"x")
    loop.run()
    assert seen == [(READABLE, None, b"x")]
    assert poll.closed
    guard.close()


def test_poll_is_level_triggered_and_changes_its_events(
    kind: Any, loop: Any, pair: tuple[socket.socket, socket.socket]
) -> None:
    a, b = pair
    seen: list[int] = []

    def ready(handle: Any, events: int, _error: Any) -> None:
        seen.append(events)
        if len(seen) == 3:
            handle.start(READABLE | WRITABLE, both)

    def both(handle: Any, events: int, _error: Any) -> None:
        seen.append(events)
        if events & WRITABLE:
            handle.stop()
            loop.stop()

    poll = kind.Poll(loop, a.fileno())
    poll.start(READABLE, ready)
    guard = watchdog(kind, loop)
    b.send(b"x")  # never read
    loop.run()
    assert seen[:3] == [READABLE] * 3
    assert seen[-1] & WRITABLE
    poll.close()
    guard.close()


def test_poll_tells_of_the_peers_end(kind: Any, loop: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    a, b = pair
    seen: list[bytes] = []

    def ready(handle: Any, _events: int, _error: Any) -> None:
        seen.append(a.recv(10))
        handle.close()
        loop.stop()

    poll = kind.Poll(loop, a.fileno())
    poll.start(READABLE, ready)
    guard = watchdog(kind, loop)
    b.close()
    loop.run()
    assert seen == [b""]
    guard.close()


def test_timer_once_and_repeated(kind: Any, loop: Any) -> None:
    seen: list[str] = []

    def tick(_timer: Any) -> None:
        seen.append("tick")
        if len(seen) == 4:
            loop.stop()

    once, repeated = kind.Timer(loop), kind.Timer(loop)
    once.start(lambda _timer: seen.append("once"), 0, 0)
    repeated.start(tick, 0.02, 0.001)
    loop.run()
    assert seen == ["once", "tick", "tick", "tick"]
    once.close()
    repeated.close()


def test_timer_is_not_early_and_can_be_moved(kind: Any, loop: Any) -> None:
    timer = kind.Timer(loop)
    begin = time.monotonic()
    timer.start(lambda _timer: None, 10, 0)
    timer.start(lambda _timer: loop.stop(), 0.05, 0)
    loop.run()
    assert 0.048 <= time.monotonic() - begin < 5
    with pytest.raises(ValueError, match="positive"):
        timer.start(lambda _timer: None, -1, 0)
    timer.close()


def test_timer_that_is_stopped_does_not_fire(kind: Any, loop: Any) -> None:
    seen: list[str] = []
    stopped, last = kind.Timer(loop), kind.Timer(loop)
    stopped.start(lambda _timer: seen.append("stopped"), 0.001, 0)
    stopped.stop()
    last.start(lambda _timer: loop.stop(), 0.02, 0)
    loop.run()
    assert seen == []
    stopped.close()
    last.close()


def test_signal(kind: Any, loop: Any) -> None:
    seen: list[int] = []

    def raised(_handle: Any, signum: int) -> None:
        seen.append(signum)
        loop.stop()

    handle = kind.Signal(loop)
    handle.start(raised, signal.SIGUSR2)
    guard = watchdog(kind, loop)
    os.kill(os.getpid(), signal.SIGUSR2)
    loop.run()
    assert seen == [signal.SIGUSR2]
    handle.close()
    guard.close()


def test_prepare_runs_before_the_loop_waits(kind: Any, loop: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    """What callbacks of one wake-up gathered is written in prepare, before anybody waits for it."""
    a, b = pair
    gathered: list[bytes] = []
    flushed: list[list[bytes]] = []

    def prepared(_handle: Any) -> None:
        if gathered:
            flushed.append(gathered[:])
            gathered.clear()
            a.send(b"flushed")

    def readable(handle: Any, _events: int, _error: Any) -> None:
        assert b.recv(100) == b"flushed"
        handle.close()
        loop.stop()

    prepare = kind.Prepare(loop)
    prepare.start(prepared)
    poll = kind.Poll(loop, b.fileno())
    poll.start(READABLE, readable)
    timers = [kind.Timer(loop) for _ in range(3)]
    for timer in timers:
        timer.start(lambda _timer: gathered.append(b"x"), 0, 0)
    guard = watchdog(kind, loop)
    loop.run()
    assert sum(map(len, flushed)) == 3
    for handle in (prepare, guard, *timers):
        handle.close()


@pytest.mark.parametrize("where", ["timer", "poll", "prepare", "signal"])
def test_an_exception_ends_run_and_is_raised(
    kind: Any, loop: Any, where: str, pair: tuple[socket.socket, socket.socket]
) -> None:
    def fail(*_arguments: Any) -> None:
        raise ZeroDivisionError(where)

    handle = {
        "timer": lambda: kind.Timer(loop),
        "poll": lambda: kind.Poll(loop, pair[0].fileno()),
        "prepare": lambda: kind.Prepare(loop),
        "signal": lambda: kind.Signal(loop),
    }[where]()
    arguments = {"timer": (fail, 0, 0), "poll": (WRITABLE, fail), "prepare": (fail,), "signal": (fail, signal.SIGUSR2)}
    handle.start(*arguments[where])
    guard = watchdog(kind, loop)
    os.kill(os.getpid(), signal.SIGUSR2) if where == "signal" else None
    with pytest.raises(ZeroDivisionError, match=where):
        loop.run()
    handle.close()
    guard.close()


def test_the_loop_is_chosen_by_the_environment() -> None:
    def chosen(value: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "import hacd.loop; print(hacd.loop.NAME, hacd.loop.Poll.__module__)"]
        environment = {**os.environ, "HACD_LOOP": value}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)

    assert chosen("pyuv").stdout.split()[0] == "pyuv"
    assert chosen("uvloop").stdout.split() == ["uvloop", "hacd.loop.fallback"]
    assert "'libev' is wrong: pyuv or uvloop would be right" in chosen("libev").stderr


def test_a_daemon_on_the_fallback(start_daemon: StartDaemon, nginx: Nginx, nobody: str) -> None:
    """The whole way of a query, a deadline, a death and a stop, on uvloop."""
    daemon = start_daemon(loop="uvloop", workers=2)
    with daemon.client() as client:
        replies = list(client.query_many([nginx.url] * 2000, in_flight=100))
        assert [reply.ok for reply in replies] == [1] * 2000
        assert [reply.ok for reply in client.query_many([f"{nginx.url}/short/"] * 200, 20)] == [1] * 200
        assert client.query(nobody).code == 7
        assert client.query("http://192.0.2.1/", timeout=50).ok == 0
        victim = daemon.pid("worker 1")
        os.kill(victim, signal.SIGKILL)
        wait_for("a new worker", lambda: all(row["pid"] not in (0, victim) for row in client.stats()["workers"]))
        assert client.query(nginx.url).ok == 1
