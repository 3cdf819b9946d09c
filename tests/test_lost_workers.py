"""Queries whose worker is lost: which are sent again, and how workers are lost that do not die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest

from hacd.front.fleet import ATTEMPTS
from hacd.ledger import SLOT_BITS, SLOT_MASK, Ledger
from hacd.query import is_idempotent, parse
from hacd.supervisor.children import RETRIES
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import Nginx, answer, free_port
from tests.support.waiting import wait_for
from tests.support.wire import Wire


@pytest.mark.parametrize(
    ("options", "may"),
    [
        ({}, True),
        ({"body": b""}, False),
        ({"method": "GET", "body": b"x"}, True),
        *(({"method": method}, True) for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE")),
        *(({"method": method}, False) for method in ("POST", "PATCH", "LOCK", "get")),
        ({"authmethod": 1}, True),
    ],
)
def test_what_may_be_sent_twice(options: dict[str, object], may: bool) -> None:
    query = parse(["http://x/", dict(options)])
    assert is_idempotent(query[8], query[7] is not None) is may


def test_idempotent_queries_are_sent_again(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda sock, head: answer(sock, head) if origin.release.wait(20) else None)
    daemon = start_daemon(workers=2)
    with Wire(daemon.socket) as wire:
        wire.send(*([0, n, "query", [origin.url, {"timeout": 20_000, "xdata": n}]] for n in range(10)))
        wire.send(*([0, n, "query", [origin.url, {"timeout": 20_000, "method": "POST"}]] for n in range(10, 15)))
        wait_for("all of them", lambda: len(origin.heads) == 15)
        # The origin's home has them all.
        (busy,) = [row["pid"] for row in daemon.stats()["workers"] if row["in_flight"]]
        os.kill(busy, signal.SIGKILL)
        lost = [wire.receive() for _ in range(5)]
        assert sorted(message[1] for message in lost) == list(range(10, 15))
        assert {message[3]["err"] for message in lost} == {"worker lost"}
        origin.release.set()
        replies = [wire.receive()[3] for _ in range(10)]
    assert {reply["ok"] for reply in replies} == {1}
    assert sorted(reply["xdata"] for reply in replies) == list(range(10))
    stats = daemon.wait_idle()
    assert (stats["requests"], stats["replies"], stats["errors"], stats["retried"]) == (15, 10, 5, 10)


def test_the_only_worker(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """What it had waits for its successor."""
    origin = start_origin(lambda sock, head: answer(sock, head) if origin.release.wait(20) else None)
    daemon = start_daemon(workers=1)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("the query", lambda: origin.heads)
        os.kill(daemon.pid("worker 1"), signal.SIGKILL)
        wait_for("it to come again", lambda: len(origin.heads) == 2)
        origin.release.set()
        assert wire.receive()[3]["ok"] == 1


def test_a_request_that_has_not_left_is_sent_again(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """A POST whose connection is not there yet; one that has left is the test above's."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port), backlog=0) as hangs, contextlib.ExitStack() as stack:
        for _ in range(3):  # its queue is full: who dials now waits
            full = stack.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(hangs.getsockname())
        daemon = start_daemon(workers=1)
        with Wire(daemon.socket) as wire:
            wire.send([0, 1, "query", [f"http://127.0.0.1:{port}/", {"timeout": 20_000, "body": b"x"}]])
            wait_for("it to be in flight", lambda: daemon.stats()["workers"][0]["in_flight"] == 1)
            victim = daemon.pid("worker 1")
            os.kill(victim, signal.SIGKILL)
            wait_for("another to have it", lambda: in_flight_elsewhere(daemon, victim))
            assert daemon.stats()["retried"] == 1
            wire.send([2, "cancel", [1]])
            assert wire.receive()[3]["err"] == "cancelled"


def in_flight_elsewhere(daemon: Daemon, victim: int) -> bool:
    (row,) = daemon.stats()["workers"]
    return bool(row["pid"] != victim and row["in_flight"] == 1)


def test_ledger() -> None:
    ledger = Ledger(4)
    one, next_one, chained = 7 << SLOT_BITS | 2, 8 << SLOT_BITS | 2, 1 << SLOT_BITS | SLOT_MASK
    assert not ledger.reached(one)
    ledger.note(one)
    assert ledger.reached(one)
    ledger.clear(next_one)
    assert not ledger.reached(next_one)
    ledger.note(chained)
    ledger.clear(chained)
    assert ledger.reached(chained)
    pid = os.fork()
    if pid == 0:
        ledger.note(next_one)
        os._exit(0)
    os.waitpid(pid, 0)
    assert ledger.reached(next_one)


def test_a_query_that_kills_its_workers(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    daemon = start_daemon(workers=1)

    def script(_sock: socket.socket, _head: bytes) -> None:
        os.kill(daemon.pid("worker 1"), signal.SIGKILL)

    origin = start_origin(script)
    with daemon.client() as client:
        reply = client.query(origin.url, timeout=20_000)
        assert (reply.ok, reply.code, reply.err) == (0, 56, "worker lost")
        assert len(origin.heads) == ATTEMPTS
        assert client.query(nginx.url, timeout=20_000).ok == 1


def test_the_deadline_holds_over_attempts(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(workers=1)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 1000}]])
        wait_for("the query", lambda: origin.heads)
        os.kill(daemon.pid("worker 1"), signal.SIGKILL)
        reply = wire.receive()[3]
    assert reply["code"] == 28
    assert reply["time"]["total"] + reply["time"]["queue"] < 5_000_000


def test_a_worker_that_is_stopped_is_replaced(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    origin = start_origin(lambda sock, head: answer(sock, head) if origin.release.wait(20) else None)
    daemon = start_daemon(workers=1, worker_timeout=1000)
    daemon.tolerate.add(" ERROR ")
    victim = daemon.pid("worker 1")
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("the query", lambda: origin.heads)
        os.kill(victim, signal.SIGSTOP)
        wait_for("its successor", lambda: daemon.pid("worker 1") != victim)
        origin.release.set()
        assert wire.receive()[3]["ok"] == 1
    assert f"worker 1 [{victim}] has not answered for 1000 ms" in daemon.log
    assert f"worker 1 [{victim}] is stopped: killed" in daemon.log
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1


def test_a_front_that_was_stopped_blames_nobody(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(workers=1, worker_timeout=1000)
    worker, front = daemon.pid("worker 1"), daemon.pid("front")
    os.kill(front, signal.SIGSTOP)
    with pytest.raises(AssertionError, match="in vain"):
        wait_for("nothing", lambda: False, patience=3)
    os.kill(front, signal.SIGCONT)
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1
        beats = client.stats()["uptime_ms"]
        wait_for("two more beats", lambda: client.stats()["uptime_ms"] > beats + 2500)
    assert daemon.pid("worker 1") == worker


def test_a_crash_leaves_its_stack_in_the_log(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(workers=1)
    daemon.tolerate.add(" ERROR ")
    victim = daemon.pid("worker 1")
    os.kill(victim, signal.SIGSEGV)
    wait_for("its stack", lambda: "hacd/worker/process.py" in daemon.log)
    assert f"worker 1 [{victim}] stack: Fatal Python error: Segmentation fault" in daemon.log
    with daemon.client() as client:
        assert client.query(nginx.url, timeout=20_000).ok == 1
        (worker,) = client.stats()["workers"]
        assert (worker["state"], worker["restarts"]) == ("running", 1)


def test_a_worker_that_cannot_live_is_given_up_and_revived(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(workers=2)
    daemon.give_up("worker 1")
    with daemon.client() as client:
        wait_for("the front to hear of it", lambda: client.stats()["workers"][0]["state"] == "fatal")
        first, second = client.stats()["workers"]
        assert (first["worker"], first["pid"], first["restarts"]) == (1, 0, RETRIES)
        assert (second["worker"], second["state"]) == (2, "running")
        assert client.query(nginx.url).ok == 1
        os.kill(daemon.process.pid, signal.SIGHUP)
        wait_for("its revival", lambda: client.stats()["workers"][0]["state"] == "running")
        wait_for("its hello", lambda: client.stats()["workers"][0]["pid"])
