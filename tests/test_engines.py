"""Several engines in one worker: who gets a query, and who goes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pycurl
import pytest

from hacd.ledger import Ledger
from hacd.loop import Loop
from hacd.outcome import Outcome
from hacd.settings import Settings
from hacd.worker.engines import IDLE, MOST, Engines
from hacd.worker.sockets import Sockets, Watches
from tests.conftest import StartDaemon
from tests.support.origins import Nginx


@pytest.fixture
def worker() -> Iterator[Engines]:
    loop = Loop()
    made = Engines(loop, Settings(), _report, Ledger(1), lambda: None)
    yield made
    made.cancel_all()
    made.close()
    loop.close()


def _report(id_: int, code: int, _outcome: Outcome) -> None:
    raise AssertionError(f"{id_} ended with {code}")


def start(worker: Engines, numbers: range) -> None:
    now = time.monotonic_ns()
    for number in numbers:
        worker.start([number, b"http://127.0.0.1:9/", 5000, None, None, b"", now, None, 0], now)


def loads(worker: Engines) -> list[int]:
    return [engine.in_flight for engine in worker._all]


def test_a_full_engine_has_another_beside_it(worker: Engines) -> None:
    start(worker, range(1, MOST + 1))
    assert loads(worker) == [MOST]
    start(worker, range(MOST + 1, 2 * MOST + 6))
    assert loads(worker) == [MOST, MOST, 5]
    worker.cancel(2 * MOST + 3)
    worker.cancel(7)
    worker.cancel(7)
    assert loads(worker) == [MOST - 1, MOST, 4]
    assert worker.in_flight == 2 * MOST + 3
    start(worker, range(9000, 9001))
    assert loads(worker) == [MOST, MOST, 4]


def test_what_a_peak_left_goes(worker: Engines) -> None:
    start(worker, range(1, 2 * MOST + 2))
    worker.cancel_all()
    for _ in range(IDLE):
        worker.look()
    assert loads(worker) == [0, 0, 0]
    for _ in range(2):
        worker.look()
    assert loads(worker) == [0]
    start(worker, range(1, 3))
    assert loads(worker) == [2]


def test_no_more_engines_than_descriptors_are_for(worker: Engines) -> None:
    worker._most = 2
    start(worker, range(1, 2 * MOST + 11))
    assert loads(worker) == [MOST + 5, MOST + 5]


def test_no_more_transfers_than_descriptors_are_for(worker: Engines) -> None:
    """Each of a hundred thousand would be found out by libcurl, one by one, and hold the worker until it is killed."""
    worker._most, worker._bound = 2, 2 * MOST + 3
    ended: list[tuple[int, int, Outcome]] = []
    worker._share.report = lambda *outcome: ended.append(outcome)
    start(worker, range(1, 2 * MOST + 6))
    assert worker.in_flight == 2 * MOST + 3
    assert [(id_, code) for id_, code, _ in ended] == [(2 * MOST + 4, 7), (2 * MOST + 5, 7)]
    assert b"no descriptor left for another transfer: 259 are in flight" in ended[0][2]  # type: ignore[operator]
    worker.cancel(1)
    start(worker, range(9000, 9001))
    assert worker.in_flight == 2 * MOST + 3
    assert len(ended) == 2


def test_one_that_failed_while_it_had_nothing_is_made_anew(worker: Engines) -> None:
    start(worker, range(1, MOST + 2))
    for number in range(1, MOST + 2):
        worker.cancel(number)
    idle = worker._all[1]
    idle._sockets.failed = True
    worker.tick()
    assert not idle._sockets.failed


def test_held_ones_stay_so(worker: Engines) -> None:
    start(worker, range(1, MOST + 1))
    worker.hold()
    start(worker, range(MOST + 1, MOST + 2))
    assert [engine.held for engine in worker._all] == [True, True]
    worker.go_on()
    assert [engine.held for engine in worker._all] == [False, False]


def test_a_watch_that_begins_and_ends_in_the_turn_that_ends_its_multi() -> None:
    """The table is all engines': it outlives the multi, and looks at what the turn began."""
    loop, multi = Loop(), pycurl.CurlMulti()
    table = Watches(loop)
    sockets = Sockets(table, multi)
    left, right = socket.socketpair()
    with right:
        sockets._want(pycurl.POLL_IN, left.fileno(), None, None)
        sockets._want(pycurl.POLL_REMOVE, left.fileno(), None, None)
        left.close()
        sockets.close()
        assert [watch.active for watch in table.unknown] == [0]
        table.wait_begins()
    multi.close()
    loop.close()


def test_descriptors_go_from_one_to_the_other(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Each query closes its connection, and the next in any engine gets its number: an event must not go astray."""
    with start_daemon(workers=1).client() as client:
        queries = [(nginx.url, {"hdr": ["Connection: close"]}) for _ in range(8 * MOST)]
        replies = list(client.query_many(queries, in_flight=3 * MOST))
    assert [reply.err for reply in replies if not reply.ok] == []
    assert len(replies) == 8 * MOST


def test_a_slow_origin_with_more_than_one_engine_has(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Those who wait in other engines are called off at their time-out, and cost the next ones nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=4 * MOST) as silent, start_daemon(workers=1).client() as client:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        codes = {reply.code for reply in client.query_many([(url, {"timeout": 300})] * (3 * MOST), in_flight=3 * MOST)}
        assert codes == {28}
        assert client.query(nginx.url).ok
        assert client.stats()["in_flight"] == 0
