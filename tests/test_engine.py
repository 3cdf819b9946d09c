"""The engine alone, on a loop of the test's own."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from hacd.flusher import Flusher
from hacd.ledger import Ledger
from hacd.loop import Loop, Timer
from hacd.outcome import Outcome
from hacd.settings import Settings
from hacd.worker.engine import Engine
from hacd.worker.sockets import BATCH
from tests.conftest import StartOrigin
from tests.support.origins import answer
from tests.support.waiting import PATIENCE

MANY = 3 * BATCH


# pycurl takes a copy of the descriptor, and drops the socket unclosed.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_outcomes_leave_in_batches(start_origin: StartOrigin) -> None:
    """However many replies one turn of the loop brings: the front gets the first while the last are still read."""
    origin = start_origin(answer)
    loop = Loop()
    flusher = Flusher(loop)
    ended: list[int] = []
    looked: list[int] = []

    def report(id_: int, code: int, _outcome: Outcome) -> None:
        assert code == 0
        ended.append(id_)
        if len(ended) == MANY:
            loop.stop()

    engine = Engine(loop, Settings(), report, Ledger(1), lambda: looked.append(len(ended)))
    flusher.start(engine.tick, engine.wait_begins)
    timer = Timer(loop)
    timer.start(lambda _timer: loop.stop(), PATIENCE, 0)
    now = time.monotonic_ns()
    for number in range(1, MANY + 1):
        engine.start([number, origin.url.encode(), 5000, None, None, b"", now, None], now)
    loop.run()
    engine.close()
    timer.close()
    loop.close()
    assert sorted(ended) == [*range(1, MANY + 1)]
    assert any(0 < count < MANY for count in looked)
    assert all(later - earlier <= BATCH for earlier, later in pairwise(looked))
