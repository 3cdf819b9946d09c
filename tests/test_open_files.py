"""Open files: what a daemon may need is said at the start; where none is left, outcomes come, and no busy loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hacd import Client, shared
from hacd.front import listener
from hacd.settings import Hacd, Settings
from hacd.settings.table import Limits
from hacd.supervisor import open_files
from hacd.worker import room
from tests.conftest import StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import Nginx
from tests.support.waiting import wait_for
from tests.support.wire import Wire

#: descriptors that each process has
LIMIT = 64

StartLimited = Callable[..., Daemon]


@pytest.fixture
def start_limited(tmp_path: Path) -> Iterator[StartLimited]:
    """`start_limited(limit, **settings)`: a daemon under a hard limit of open files, which may say so in its log."""
    with contextlib.ExitStack() as stack:

        def start(limit: int = LIMIT, **settings: object) -> Daemon:
            prefix = ["prlimit", f"--nofile={limit}:{limit}"]
            daemon = Daemon(tmp_path, prefix=prefix, **settings)  # type: ignore[arg-type]
            daemon.tolerate.add(" ERROR ")
            stack.callback(daemon.close)
            return daemon.wait_ready()

        yield start


def test_need_is_the_workers_own_figures() -> None:
    assert (open_files.CONNECTIONS, open_files.SHARED) == (room.CONNECTIONS, shared.BODIES + shared.ARENAS)
    assert open_files.SHARED == listener.SPARE
    assert open_files.need(Settings()) >= Settings().limits.max_clients + shared.BODIES + shared.ARENAS


def test_a_front_of_several_needs_those_of_what_it_offers() -> None:
    """What another passes when none is left cuts the connection to it off, and so does a worker's body."""
    limits = Limits(max_clients=40_000)
    alone, one_of_two = (
        open_files.need(Settings(limits=limits, hacd=Hacd(fronts=fronts))) - 40_000 // fronts for fronts in (1, 2)
    )
    assert one_of_two - alone == 2 + shared.OFFERING
    assert shared.OFFERING >= 2 * shared.TICKETS + 253  # what one recvmsg brings


def test_need_is_said(start_limited: StartLimited) -> None:
    log = start_limited(4096, max_clients=1000, workers=1).log
    assert "INFO hacd: supervisor" in log
    assert "open files: 1728 a process suffice, the limit is 4096" in log


def test_limit_below_the_need_is_a_warning(start_limited: StartLimited) -> None:
    log = start_limited(512, max_clients=2000, workers=1).log
    assert "open files: a process may need 2705, and the limit is 512: raise it" in log


def busy(pid: int) -> float:
    """The share of a second that a process computes."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    time.sleep(1)  # what is measured is this second
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


def test_callers_for_whom_none_is_left_wait(start_limited: StartLimited, nginx: Nginx) -> None:
    daemon = start_limited(workers=1)
    front = daemon.pid("front")
    with contextlib.ExitStack() as stack:
        early = stack.enter_context(daemon.client())
        assert early.query(nginx.url).ok == 1
        wires = [stack.enter_context(Wire(daemon.socket)) for _ in range(LIMIT)]
        for wire in wires:
            wire.send([0, 1, "ping", []])  # no query: the worker has the same limit
        wait_for("descriptors to run out", lambda: "cannot accept" in daemon.log)
        assert early.query(nginx.url).ok == 1
        assert busy(front) < 0.3
        for wire in wires:  # those who came first are answered, leave, and make room
            assert wire.receive()[1:3] == [1, None]
            wire.sock.close()
    assert daemon.pid("front") == front
    assert daemon.wait_idle()["clients"] == 1


def test_idle_callers_leave_descriptors_for_bodies(start_limited: StartLimited, nginx: Nginx) -> None:
    """They took all: the worker that passed a body was cut off, and there was no worker from then on."""
    body = b"long" * 100_000
    (nginx.files / "long").write_bytes(body)
    daemon = start_limited(workers=1)
    with contextlib.ExitStack() as stack:
        early = stack.enter_context(daemon.client())
        assert early.query(nginx.url).ok == 1
        for _ in range(LIMIT):
            stack.enter_context(Wire(daemon.socket)).send([0, 1, "ping", []])
        wait_for("descriptors to run out", lambda: "cannot accept" in daemon.log)
        for _ in range(20):  # files, and then an arena
            assert early.query(f"{nginx.url}/file/long", timeout=2000).rb == body
        assert "lost" not in daemon.log


def test_queries_for_which_none_is_left_end(
    start_limited: StartLimited, start_origin: StartOrigin, nginx: Nginx
) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_limited(workers=1)
    worker = daemon.pid("worker 1")
    with Wire(daemon.socket) as wire, daemon.client() as other:
        queries = range(2 * LIMIT)
        wire.send(*([0, msgid, "query", [origin.url, {"timeout": 4000}]] for msgid in queries))
        wait_for("descriptors to run out", lambda: "no socket for an origin" in daemon.log)
        assert _code(other, nginx) == 7
        assert busy(worker) < 0.3
        outcomes = [wire.receive() for _ in queries]
        assert sorted(outcome[1] for outcome in outcomes) == list(queries)
        assert {outcome[3]["code"] for outcome in outcomes} == {7, 28}
        assert {other.query(nginx.url).ok for _ in range(20)} == {1}
    assert daemon.pid("worker 1") == worker


def _code(client: Client, nginx: Nginx) -> int:
    return client.query(nginx.url, timeout=500).code
