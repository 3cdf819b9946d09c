"""How many queries are on their way to one origin at once (`max_host_connections`)."""

from __future__ import annotations

import socket
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from hacd.front.gate import Gate
from tests.conftest import StartDaemon, StartOrigin
from tests.support.origins import Nginx, answer
from tests.support.waiting import wait_for
from tests.support.wire import Wire


class Query:
    """What the gate knows of a transaction."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.counted = False


def test_first_come_first_through() -> None:
    gate: Gate[Query] = Gate()
    gate.open(2)
    a, b, c, d = (Query("x") for _ in range(4))
    assert [gate.enter(query) for query in (a, b, c, d)] == [True, True, False, False]
    assert gate.enter(Query("y"))
    assert gate.waiting == 2
    assert gate.leave(b) is c
    gate.forget(d)
    gate.forget(d)
    assert gate.leave(a) is None
    assert gate.leave(c) is None
    assert gate.waiting == 0


def test_wider_and_narrower() -> None:
    gate: Gate[Query] = Gate()
    gate.open(1)
    queries = [Query("x") for _ in range(6)]
    assert [gate.enter(query) for query in queries] == [True, *[False] * 5]
    assert gate.open(3) == queries[1:3]
    assert gate.open(2) == []
    assert gate.leave(queries[0]) is None  # three were through
    assert gate.leave(queries[1]) is queries[3]
    assert gate.open(0) == queries[4:]


def test_a_long_queue_takes_no_longer_for_each() -> None:
    """0.05 s; 2 s where each looks past the places of those before it."""
    gate: Gate[Query] = Gate()
    gate.open(1)
    queries = [Query("x") for _ in range(60_000)]
    for query in queries:
        gate.enter(query)
    begin = time.monotonic()
    assert [gate.leave(query) for query in queries] == [*queries[1:], None]
    assert time.monotonic() - begin < 1


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), max_size=60), st.integers(1, 4))
def test_never_more_than_the_limit_and_nobody_forgotten(steps: list[tuple[str, bool]], limit: int) -> None:
    gate: Gate[Query] = Gate()
    gate.open(limit)
    through: list[Query] = []
    came = ended = 0
    for origin, ends in steps:
        if ends and through:
            following = gate.leave(through.pop(0))
            ended += 1
            through += [following] if following is not None else []
        else:
            query = Query(origin)
            came += 1
            through += [query] if gate.enter(query) else []
        assert all(sum(query.origin == name for query in through) <= limit for name in "xyz")
        assert came == ended + len(through) + gate.waiting
        assert all(query.counted for query in through)


def test_max_host_connections(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def script(sock: socket.socket, head: bytes) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        origin.release.wait(20)
        with lock:
            now[0] -= 1
        answer(sock, head)

    origin = start_origin(script)
    daemon = start_daemon(max_host_connections=3, workers=2)
    with Wire(daemon.socket) as wire:
        wire.send(*([0, n, "query", [origin.url, {"timeout": 20_000}]] for n in range(20)))
        wait_for("three to be there", lambda: len(origin.heads) == 3)
        assert daemon.stats()["waiting"] == 17
        assert wire.call("query", [nginx.url], 100)[1]["ok"] == 1  # who asks another waits for nobody
        wire.send([2, "cancel", [19]])
        assert wire.receive()[3]["code"] == 42
        origin.release.set()
        replies = [wire.receive()[3] for _ in range(19)]
    assert {reply["ok"] for reply in replies} == {1}
    assert most[0] == 3
    assert sum(reply["time"]["queue"] > 1000 for reply in replies) >= 16
    assert daemon.wait_idle()["waiting"] == 0


def test_a_timeout_after_a_wait_says_where_the_time_went(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """libcurl's text is of the transfer alone: of 1000 ms it may say that 26 were too long."""
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(max_host_connections=1)
    with Wire(daemon.socket) as wire, daemon.client() as client:
        wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("the first", lambda: origin.heads)
        wire.send([0, 2, "query", [origin.url, {"timeout": 1000}]])
        wait_for("the second to wait", lambda: any(20 < row["age_ms"] < 900 for row in client.transactions()[1:]))
        wire.send([2, "cancel", [1]])
        assert wire.receive()[3]["code"] == 42
        reply = wire.receive()[3]
    waited = reply["time"]["queue"] // 1000
    assert waited >= 20
    assert reply["err"].startswith("Operation timed out after ")
    assert reply["err"].endswith(f"; {waited} ms had passed before the transfer began")


def test_waiting_is_within_the_timeout(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(max_host_connections=1)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("the first", lambda: origin.heads)
        assert wire.call("query", [origin.url, {"timeout": 50}], 2)[1]["code"] == 28
        with daemon.client() as client:
            client.set("max_host_connections", 0)
            assert client.query(origin.url, timeout=50).code == 28
    assert len(origin.heads) == 2
