"""A front whose loop does not turn: found, made to tell where it is, and replaced."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from hacd import Refused
from hacd.errors import SettingsError
from hacd.front.routing import script
from hacd.supervisor.watch import LOOK, STARTS, Watch
from tests.conftest import StartDaemon, StartRoutes
from tests.support.daemon import Daemon
from tests.support.origins import Nginx
from tests.support.waiting import wait_for
from tests.support.wire import Wire

ENDLESS = """
@route("ENDLESS")
def endless(tx):
    tx.log("warning in the route")
    while True:
        pass
"""


def looks(watch: Watch, begin: float, timeout: float) -> float:
    """When it is found to hang, if it says nothing more."""
    now = begin
    while not watch.hangs(now, timeout):
        now += LOOK / 16  # which floats have exactly
        assert now < begin + 1000
    return now - begin


# -- what decides


def test_silence() -> None:
    watch = Watch()
    watch.begin(100.0)
    watch.alive()
    assert 5 < looks(watch, 100.0, 5.0) <= 5 + 2 * LOOK
    assert watch.due is None
    assert not watch.hangs(1000.0, 5.0)


def test_one_that_lives() -> None:
    watch = Watch()
    watch.begin(100.0)
    for second in range(100, 1000):
        watch.alive()
        assert not watch.hangs(second + 0.99, 1.0)


def test_beats_that_are_a_little_late() -> None:
    """Each second look comes just before the beat: that one was 20 ms late, and not a second."""
    watch = Watch()
    watch.begin(100.0)
    for second in range(101, 1000, 2):
        watch.alive()
        assert not watch.hangs(second, 1.0)
        assert not watch.hangs(second + 1, 1.0)
        watch.alive()


def test_one_that_starts_has_longer() -> None:
    watch = Watch()
    watch.begin(100.0)
    assert STARTS < looks(watch, 100.0, 1.0) <= STARTS + 2 * LOOK
    watch.begin(200.0)
    assert 60 < looks(watch, 200.0, 60.0) <= 60 + 2 * LOOK


def test_longest_file_of_routes_lets_a_front_start() -> None:
    """It is read twice: judged in a process of its own, and then loaded, while the loop does not turn."""
    watch = Watch()
    watch.begin(100.0)
    assert looks(watch, 100.0, 1.0) > 2 * script.LONGEST + 5


def test_a_watcher_that_did_not_run_blames_nobody() -> None:
    watch = Watch()
    watch.begin(100.0)
    watch.alive()
    assert not watch.hangs(5000.0, 5.0)
    watch.alive()
    assert 5 < looks(watch, 5000.0, 5.0) <= 5 + 2 * LOOK


def test_one_that_is_gone_is_not_looked_at() -> None:
    watch = Watch()
    assert (watch.due, watch.hangs(5.0, 1.0)) == (None, False)
    watch.begin(100.0)
    watch.end()
    assert (watch.due, watch.hangs(1000.0, 1.0)) == (None, False)


# -- through the socket


def served_again(daemon: Daemon, victim: int, nginx: Nginx) -> float:
    """Seconds until a new caller is served."""
    begin = time.monotonic()
    with daemon.client() as client:
        assert client.query(nginx.url, timeout=30_000).ok == 1
    assert daemon.pid("front") != victim
    return time.monotonic() - begin


def test_a_route_without_an_end(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(ENDLESS, front_timeout=1000, workers=1)
    daemon.tolerate.add(" ERROR ")
    victim = daemon.pid("front")
    worker = daemon.pid("worker 1")
    with Wire(daemon.socket) as wire, Wire(daemon.socket) as other:
        other.call("ping", [])
        wire.send([0, 1, "run", ["ENDLESS"]])
        assert wire.receive() is None
        assert other.receive() is None
    assert served_again(daemon, victim, nginx) < 10
    assert f"the front [{victim}] has not turned for 1000 ms (front_timeout)" in daemon.log
    assert f"front [{victim}] hangs: killed" in daemon.log
    assert f"front [{victim}] stack: " in daemon.log
    assert "in endless" in daemon.log
    assert daemon.pid("worker 1") == worker


def test_a_front_that_is_stopped(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(front_timeout=60_000)
    daemon.tolerate.add(" ERROR ")
    victim = daemon.pid("front")
    with daemon.client() as client:
        client.set("front_timeout", 2000)  # it is live
    with Wire(daemon.socket) as wire:
        wire.call("ping", [])
        os.kill(victim, signal.SIGSTOP)
        assert served_again(daemon, victim, nginx) < 12
        assert wire.receive() is None
    assert f"front [{victim}] is stopped: killed" in daemon.log


def test_a_supervisor_that_was_stopped_blames_nobody(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(front_timeout=1000)
    front = daemon.pid("front")
    daemon.process.send_signal(signal.SIGSTOP)
    with pytest.raises(AssertionError, match="in vain"):
        wait_for("nothing", lambda: False, patience=4)
    daemon.process.send_signal(signal.SIGCONT)
    with daemon.client() as client:
        uptime = client.ping()["uptime_ms"]
        wait_for("two more looks", lambda: client.ping()["uptime_ms"] > uptime + 2500)
        assert client.query(nginx.url).ok == 1
    assert daemon.pid("front") == front


def test_a_front_that_hangs_while_the_daemon_stops(routes: StartRoutes) -> None:
    """The drain has its own deadline."""
    daemon = routes(ENDLESS, drain_timeout=0)
    daemon.tolerate.add(" ERROR ")
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "run", ["ENDLESS"]])
        wait_for("the route", lambda: "in the route" in daemon.log)
        assert daemon.terminate() == 0
    assert "does not end: killed" in daemon.log


def test_a_file_of_routes_that_is_never_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "LONGEST", 0.2)
    path = tmp_path / "routes.py"
    path.write_text("while True: pass\n")
    with pytest.raises(SettingsError, match=r"it was not read within 0\.2 s"):
        script.check_apart(str(path))


def test_a_file_of_routes_that_begins_a_process(tmp_path: Path) -> None:
    """That may live on, and keep all that it was born with, the pipe too."""
    path, born = tmp_path / "routes.py", tmp_path / "born"
    path.write_text(
        "import os, time\nfrom hacd.routes import route\n\n@route('R')\ndef r(tx): return 1\n\n"
        f"if not os.fork():\n    open({str(born)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n    os._exit(0)\n"
    )
    begin = time.monotonic()
    script.check_apart(str(path), longest=20)
    assert time.monotonic() - begin < 20
    wait_for("the process", lambda: born.exists() and born.read_text())
    os.kill(int(born.read_text()), signal.SIGKILL)


def test_a_reload_of_such_a_file_is_refused(start_daemon: StartDaemon, tmp_path: Path, nginx: Nginx) -> None:
    """Before the front is taken for one that hangs."""
    path = tmp_path / "routes.py"
    path.write_text("from hacd.routes import route\n\n@route('R')\ndef r(tx): return 1\n")
    daemon = start_daemon(routes=path, front_timeout=1000)
    daemon.tolerate.add(" ERROR ")
    front = daemon.pid("front")
    path.write_text("while True: pass\n")
    with daemon.client() as client:
        with pytest.raises(Refused, match=r"it was not read within 0\.333333 s"):
            client.reload()
        assert client.run("R") == 1
        assert client.query(nginx.url).ok == 1
    assert daemon.pid("front") == front
