"""Origins with bad intentions: each query to one ends once, in time and with a code that says how; neighbours go on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from hacd import Client, Reply
from tests.conftest import StartOrigin
from tests.support.daemon import Daemon
from tests.support.hostile import HOSTILE, MIB, Hostile
from tests.support.origins import RawOrigin

#: ms that a query to a hostile origin has
TIMEOUT = 400

#: s beyond it in which its outcome has to be there, on a machine that is busy with other tests
MARGIN = 2.0

QUERIES = 4  # to the hostile origin at one time

EACH = pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), workers=1, max_body=MIB).wait_ready()
    yield daemon
    daemon.close()


@pytest.fixture
def unharmed(daemon: Daemon) -> Iterator[None]:
    """Afterwards nothing is in flight, and neither front nor worker has been replaced."""
    pids = [daemon.pid("front"), daemon.pid("worker 1")]
    yield
    daemon.wait_idle()
    assert [daemon.pid("front"), daemon.pid("worker 1")] == pids


def ask(client: Client, origin: RawOrigin, hostile: Hostile, timeout: int = TIMEOUT) -> list[Reply]:
    queries = [(f"{origin.url}/", {"timeout": timeout, **hostile.options})] * QUERIES
    return list(client.query_many(queries, in_flight=QUERIES))


@EACH
def test_outcome(client: Client, unharmed: None, start_origin: StartOrigin, hostile: Hostile) -> None:
    """One for each query, with a code that says what was wrong, within its timeout."""
    origin = start_origin(hostile.script)
    before = client.stats()
    begin = time.monotonic()
    replies = ask(client, origin, hostile)
    assert time.monotonic() - begin < TIMEOUT / 1000 + MARGIN
    assert len({reply.id for reply in replies}) == QUERIES
    assert {reply.code for reply in replies} <= set(hostile.codes)
    assert all((reply.err is None) == (reply.code == 0) for reply in replies)
    after = client.stats()
    ended = sum(after[name] - before[name] for name in ("replies", "errors", "timeouts"))
    assert (ended, after["late"] - before["late"]) == (QUERIES, 0)
