"""The engines alone, on a loop of the test's own."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import pairwise

import pycurl
import pytest

from hacd.flusher import Flusher
from hacd.ledger import Ledger
from hacd.loop import Loop, Timer
from hacd.outcome import Outcome
from hacd.settings import Settings
from hacd.worker.engines import Engines
from hacd.worker.sockets import BATCH
from hacd.worker.transfer import Transfer
from tests.conftest import StartOrigin
from tests.support.origins import answer
from tests.support.waiting import PATIENCE

# pycurl takes a copy of the descriptor, and drops the socket unclosed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MANY = 3 * BATCH


def carry_out(url: str, count: int, login: tuple[str, str] | None, on_batch: Callable[[int], None]) -> list[int]:
    """The ids of that many queries at once, in the order of their ends. `on_batch` is told how many have ended."""
    loop = Loop()
    flusher = Flusher(loop)
    ended: list[int] = []

    def report(id_: int, code: int, _outcome: Outcome) -> None:
        assert code == 0
        ended.append(id_)
        if len(ended) == count:
            loop.stop()

    engine = Engines(loop, Settings(), report, Ledger(1), lambda: on_batch(len(ended)))
    flusher.start(engine.tick, engine.wait_begins)
    timer = Timer(loop)
    timer.start(lambda _timer: loop.stop(), PATIENCE, 0)
    now = time.monotonic_ns()
    for number in range(1, count + 1):
        engine.start([number, url.encode(), 5000, None, None, b"", now, login, 0], now)
    loop.run()
    engine.close()
    timer.close()
    loop.close()
    return ended


def test_outcomes_leave_in_batches(start_origin: StartOrigin) -> None:
    """However many replies one turn of the loop brings: the front gets the first while the last are still read."""
    looked: list[int] = []
    ended = carry_out(start_origin(answer).url, MANY, None, looked.append)
    assert sorted(ended) == [*range(1, MANY + 1)]
    assert any(0 < count < MANY for count in looked)
    assert all(later - earlier <= BATCH for earlier, later in pairwise(looked))


def test_handle_goes_without_the_collector(start_origin: StartOrigin) -> None:
    """A login has a handle of its own, so thousands may come and go between two rounds of the collector."""
    url = start_origin(answer).url
    gc.collect()
    gc.disable()
    try:
        assert len(carry_out(url, 8, ("alice", "secret"), lambda _count: None)) == 8
        left = [kept for kept in gc.get_objects() if type(kept) is Transfer]
    finally:
        gc.enable()
    assert left == []


def test_multi_that_failed_is_made_anew(start_origin: StartOrigin) -> None:
    """Each transfer of it ends with an error, and the next is carried out: by the same loop, which knew its sockets."""
    url = start_origin(answer).url.encode()
    loop = Loop()
    flusher = Flusher(loop)
    codes: list[int] = []

    def report(_id: int, code: int, _outcome: Outcome) -> None:
        codes.append(code)
        if len(codes) == MANY:
            again.start(lambda _timer: start(MANY + 1), 0, 0)
        elif len(codes) > MANY:
            loop.stop()

    def start(number: int) -> None:
        now = time.monotonic_ns()
        engine.start([number, url, 5000, None, None, b"", now, None, 0], now)

    engine = Engines(loop, Settings(), report, Ledger(1), lambda: None)
    sockets = engine._first._sockets
    act = sockets.act

    def fail(fd: int, events: int) -> tuple[int, int]:
        act(fd, events)  # which has them watched
        raise pycurl.error(4, "a fault that libcurl has had")

    sockets.act = fail
    flusher.start(engine.tick, engine.wait_begins)
    timer, again = Timer(loop), Timer(loop)
    timer.start(lambda _timer: loop.stop(), PATIENCE, 0)
    for number in range(1, MANY + 1):
        start(number)
    loop.run()
    engine.close()
    for handle in (timer, again):
        handle.close()
    loop.close()
    assert codes == [2] * MANY + [0]
