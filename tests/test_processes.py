"""The processes: who is there, who is replaced, who is left behind (nobody)."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from hacd import Client, ConnectionLost, HacdError, Reply
from hacd.settings import Hacd
from hacd.supervisor import sockets
from hacd.supervisor.births import fork
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import REPLY, Nginx, RawOrigin
from tests.support.waiting import wait_for
from tests.support.wire import Wire


def names(daemon: Daemon) -> list[str]:
    return sorted(child.cmdline()[0] for child in daemon.children())


def hanging(start_origin: StartOrigin) -> RawOrigin:
    """An origin that answers when it is released."""

    def script(sock: socket.socket, _head: bytes) -> None:
        origin.release.wait(30)
        sock.sendall(REPLY)

    origin = start_origin(script)
    return origin


def test_ps_says_which_is_which(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=3)
    assert names(daemon) == ["hacd: front", "hacd: worker 1", "hacd: worker 2", "hacd: worker 3"]
    assert psutil.Process(daemon.process.pid).cmdline()[0].startswith("hacd: supervisor")


def test_socket_has_its_mode_and_the_workers_socket_is_private(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(socket_mode="0600")
    assert os.stat(daemon.socket).st_mode & 0o777 == 0o600
    assert os.stat(daemon.socket + ".workers").st_mode & 0o777 == 0o600


def test_default_socket_mode(daemon: Daemon) -> None:
    assert os.stat(daemon.socket).st_mode & 0o777 == 0o660


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_stops(start_daemon: StartDaemon, start_origin: StartOrigin, signum: int) -> None:
    origin = hanging(start_origin)
    daemon = start_daemon()
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url]])
        wait_for("the query to be in flight", lambda: origin.heads)
        daemon.process.send_signal(signum)
        wait_for("the drain", lambda: "stopping: 1 in flight" in daemon.log)
        error, _ = wire.call("query", [origin.url], 2)
        assert error["code"] == "stopping"
        assert wire.call("stats", [], 3)[1]["stopping"] is True
        origin.release.set()
        assert wire.receive()[3]["rb"] == b"ok"
        assert wire.receive() is None
    assert daemon.terminate() == 0


def test_sigterm_to_all_processes_at_once_drains_too(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    """As `systemctl stop` does without KillMode=mixed, and a terminal that is closed."""
    origin = hanging(start_origin)
    daemon = start_daemon(workers=2)
    with Wire(daemon.socket) as wire:
        wire.send(*([0, msgid, "query", [origin.url]] for msgid in range(80)))
        wait_for("the queries to be in flight", lambda: len(origin.heads) == 80)
        for process in [*daemon.children(), psutil.Process(daemon.process.pid)]:
            process.terminate()
        wait_for("the drain", lambda: "stopping: 80 in flight" in daemon.log)
        origin.release.set()
        assert {wire.receive()[3]["ok"] for _ in range(80)} == {1}
    assert daemon.terminate() == 0


def test_sigterm_to_a_worker_loses_nothing(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    """It finishes what it has, takes no more, and is replaced."""
    origin = hanging(start_origin)
    daemon = start_daemon(workers=1)
    with Wire(daemon.socket) as wire:
        wire.send(*([0, msgid, "query", [origin.url]] for msgid in range(10)))
        wait_for("the queries to be in flight", lambda: len(origin.heads) == 10)
        leaving = daemon.pid("worker 1")
        os.kill(leaving, signal.SIGTERM)
        wire.send([0, 99, "query", [nginx.url, {"timeout": 20_000}]])  # waits for the next worker
        origin.release.set()
        replies = [wire.receive() for _ in range(11)]
        assert {reply[3]["ok"] for reply in replies} == {1}
        wait_for("the next worker", lambda: daemon.pid("worker 1") != leaving)
    assert "lost" not in daemon.log


def test_sigterm_to_the_front_alone_replaces_it(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon()
    front = daemon.pid("front")
    os.kill(front, signal.SIGTERM)
    wait_for("a new front", lambda: daemon.pid("front") != front)
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1


def test_signals_while_it_starts(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """SIGTERM at any moment of the start ends it, and leaves nobody behind."""
    for number in range(12):
        directory = tmp_path / str(number)
        directory.mkdir()
        daemon = Daemon(directory)
        wait_for("some life", lambda d=daemon, n=number: len(d.log) > 32 * n or d.process.poll() is not None)  # type: ignore[misc]
        daemon.process.terminate()
        assert daemon.process.wait(20) in (0, -signal.SIGTERM)
        group = [p for p in psutil.process_iter() if str(directory) in " ".join(_words(p))]
        assert group == []


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_second_signal_ends_at_once(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = hanging(start_origin)
    daemon = start_daemon(drain_timeout=60_000)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 60_000}]])
        wait_for("the query to be in flight", lambda: origin.heads)
        daemon.process.terminate()
        wait_for("the drain", lambda: "stopping: 1 in flight" in daemon.log)
        begin = time.monotonic()
        daemon.process.terminate()
        assert wire.receive()[3]["code"] == 42
        assert daemon.process.wait(20) == 0
        assert time.monotonic() - begin < 5


def test_a_drain_gives_callers_time_to_read(start_daemon: StartDaemon, nginx: Nginx) -> None:
    (nginx.files / "drain").write_bytes(bytes(8_000_000))
    daemon = start_daemon()
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [f"{nginx.url}/file/drain"]])
        wait_for("the reply to be on its way", lambda: daemon.stats()["in_flight"] == 0 and daemon.stats()["replies"])
        daemon.process.terminate()
        wait_for("the drain", lambda: "stopping:" in daemon.log)
        assert len(wire.receive()[3]["rb"]) == 8_000_000


def test_a_drain_gives_the_last_reply_whole(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """It ends while the daemon only waits for it, and is more than a socket takes at once."""
    size = 30_000_000
    (nginx.files / "last").write_bytes(bytes(size))
    for _ in range(3):
        daemon = start_daemon()
        with Wire(daemon.socket) as wire:
            wire.send([0, 1, "query", [f"{nginx.url}/file/last"]])
            wait_for("the query", lambda d=daemon: d.stats()["requests"])  # type: ignore[misc]
            daemon.process.terminate()
            assert len(wire.receive()[3]["rb"]) == size
            assert wire.receive() is None
        assert daemon.terminate() == 0


def test_dead_worker_is_replaced_and_its_transactions_resumed(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    origin = hanging(start_origin)
    daemon = start_daemon(workers=1)
    with Wire(daemon.socket) as wire:
        wire.send(
            *([0, msgid, "query", [origin.url, {"route": "R", "xdata": msgid, "body": b""}]] for msgid in range(20))
        )
        wait_for("all in flight", lambda: len(origin.heads) == 20)
        victim = daemon.pid("worker 1")
        os.kill(victim, signal.SIGKILL)
        replies = [wire.receive()[3] for _ in range(20)]
        assert {(reply["ok"], reply["code"], reply["err"], reply["route"]) for reply in replies} == {
            (0, 56, "worker lost", "R")
        }
        assert sorted(reply["xdata"] for reply in replies) == list(range(20))
        error, reply = wire.call("query", [nginx.url], 100)  # waits for the new worker
        assert (error, reply["ok"]) == (None, 1)
        assert daemon.pid("worker 1") != victim
        stats = wire.call("stats", [], 101)[1]
        assert (stats["requests"], stats["replies"], stats["errors"], stats["in_flight"]) == (21, 1, 20, 0)
    assert "worker 1" in daemon.log
    assert "was killed by SIGKILL" in daemon.log


def test_query_while_no_worker_is_there_ends_in_time(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(workers=1)
    os.kill(daemon.pid("worker 1"), signal.SIGSTOP)  # it neither works nor dies
    with daemon.client() as client:
        reply = client.query(nginx.url, timeout=100)
        assert (reply.ok, reply.code) == (0, 28)
        os.kill(daemon.pid("worker 1"), signal.SIGCONT)
        assert client.query(nginx.url).ok == 1


def test_kill_9_of_workers_under_load_loses_nothing(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(workers=2)
    replies: list[Reply] = []

    def load() -> None:
        with daemon.client() as client:
            replies.extend(client.query_many([nginx.url] * 6000, in_flight=64))

    caller = threading.Thread(target=load)
    caller.start()
    for count in (500, 2000, 4000):
        wait_for("some load", lambda count=count: len(replies) >= count or not caller.is_alive())  # type: ignore[misc]
        os.kill(daemon.pid(f"worker {1 + count % 2}"), signal.SIGKILL)
    caller.join(60)
    assert sorted(reply.index for reply in replies if reply.index is not None) == list(range(6000))
    assert {reply.err for reply in replies if not reply.ok} <= {"worker lost"}
    assert sum(reply.ok for reply in replies) > 5900  # one can be lost with both of its workers
    stats = daemon.wait_idle()
    assert (stats["requests"], stats["replies"]) == (6000, sum(reply.ok for reply in replies))


def test_dead_front_is_replaced_and_callers_are_told(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    origin = hanging(start_origin)
    daemon = start_daemon()
    with daemon.client() as client:
        ends: list[Exception] = []

        def wait() -> None:
            try:
                client.query(origin.url, timeout=60_000)
            except HacdError as error:
                ends.append(error)

        caller = threading.Thread(target=wait)
        caller.start()
        wait_for("the query to be in flight", lambda: origin.heads)
        worker = daemon.pid("worker 1")
        os.kill(daemon.pid("front"), signal.SIGKILL)
        caller.join(10)
        assert [type(end) for end in ends] == [ConnectionLost]
        assert client.query(nginx.url).ok == 1  # the client dials again, and waits for the new front
        assert daemon.pid("worker 1") == worker  # it dialled the new front itself
        assert client.stats()["requests"] == 1
    wait_for("the transfer to have been called off", lambda: "1 transfers called off" in daemon.log)


def test_workers_outlive_fronts_that_die_under_load(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """New connections are being made when the front goes and they are called off."""
    daemon = start_daemon(workers=1)
    worker = daemon.pid("worker 1")
    for _ in range(6):
        with Wire(daemon.socket) as wire:
            wire.send(*([0, n, "query", [f"{nginx.url}/short/"]] for n in range(300)))
            assert wire.receive()[3]["ok"] == 1
            front = daemon.pid("front")
            os.kill(front, signal.SIGKILL)
            wait_for("a new front", lambda front=front: daemon.pid("front") != front)  # type: ignore[misc]
            with daemon.client() as client:
                wait_for("the worker", lambda client=client: client.query(nginx.url).ok)  # type: ignore[misc]
    assert daemon.pid("worker 1") == worker


def test_nobody_is_left_when_the_supervisor_is_killed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    children = daemon.children()
    assert len(children) == 3
    daemon.process.kill()
    daemon.process.wait()
    wait_for("the children to end", lambda: not any(child.is_running() for child in children))


def test_sockets_of_a_killed_daemon_are_taken_over(tmp_path: Path, nginx: Nginx) -> None:
    first = Daemon(tmp_path).wait_ready()
    children = first.children()
    first.process.kill()
    first.process.wait()
    wait_for("the children to end", lambda: not any(child.is_running() for child in children))
    assert Path(first.socket).is_socket()
    second = Daemon(tmp_path).wait_ready()
    with second.client() as client:
        assert client.query(nginx.url).ok == 1
    second.close()


def test_sockets_of_fronts_that_a_killed_daemon_had_are_taken_away(tmp_path: Path) -> None:
    first = Daemon(tmp_path, fronts=3).wait_ready()
    for process in [psutil.Process(first.process.pid), *first.children()]:
        process.kill()
    first.process.wait()
    wait_for("the children to end", lambda: not any(child.is_running() for child in first._seen))
    assert {f"hacd.sock.front{number}" for number in (1, 2, 3)} <= {path.name for path in tmp_path.iterdir()}
    others = {"hacd.sock.front", "hacd.sock.front02", "hacd.sock.front4x", "xhacd.sock.front4", "hacdxsock.front5"}
    for name in others:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / name))
    (tmp_path / "hacd.sock.front7").write_text("no socket")
    with socket.socket(socket.AF_UNIX) as heard:
        heard.bind(str(tmp_path / "hacd.sock.front6"))
        heard.listen()
        second = Daemon(tmp_path, fronts=1).wait_ready()
        sockets = {path.name for path in tmp_path.iterdir() if path.is_socket()}
        assert sockets == {"hacd.sock", "hacd.sock.workers", "hacd.sock.front6", *others}
        assert (tmp_path / "hacd.sock.front7").read_text() == "no socket"
        for name in ("hacd.sock.front6", *others):
            (tmp_path / name).unlink()
        second.close()


def refuses_to_run(*arguments: str) -> str:
    """The one line that `hacd run` ends with."""
    command = [sys.executable, "-m", "hacd", "run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if " INFO " not in line]
    return line


def test_socket_of_a_living_daemon_is_not_taken(daemon: Daemon) -> None:
    assert "another daemon listens there" in refuses_to_run("--socket", daemon.socket)
    assert daemon.stats()["workers"]


def test_a_file_in_the_way_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    assert "is no socket" in refuses_to_run("--socket", str(path))
    assert path.read_text() == "precious"


def test_a_directory_that_is_made_lets_others_in(tmp_path: Path) -> None:
    """Whatever the umask is: `socket_mode` says who may call."""
    path = tmp_path / "made" / "here" / "hacd.sock"
    before = os.umask(0o077)
    try:
        sockets.listen(str(path), Hacd()).close()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert [directory.stat().st_mode & 0o777 for directory in (path.parent, path.parent.parent)] == [0o755, 0o755]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "no directory" in refuses_to_run("--socket", str(tmp_path / "file" / "hacd.sock"))


def test_a_path_that_is_too_long() -> None:
    assert "at most 99 bytes" in refuses_to_run("--socket", f"/tmp/{'é' * 48}")


def test_a_loop_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HACD_LOOP", "libev")
    assert "HACD_LOOP: 'libev' is wrong: pyuv or uvloop would be right" in refuses_to_run()


def test_worker_that_cannot_live_is_started_later_each_time(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Back-off: no fork storm."""
    daemon = start_daemon(workers=1)
    killed: set[int] = set()
    begin = time.monotonic()
    for _ in range(4):
        pid = wait_for("a new worker", lambda: (pid := daemon.pid("worker 1")) not in killed and pid)
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        wait_for("its end to be noticed", lambda: daemon.log.count("killed by SIGKILL") == len(killed))
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1
    assert time.monotonic() - begin >= 0.05 + 0.1 + 0.2 + 0.4


@pytest.mark.parametrize(
    "lacking", [(socket, "socketpair"), (os, "memfd_create"), (os, "fork")], ids=lambda what: what[1]
)
def test_a_child_that_cannot_be_forked_leaves_nothing_open(
    lacking: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an OSError, after which the supervisor tries again later: of each of them."""
    monkeypatch.setattr(*lacking, Mock(side_effect=OSError(24, "Too many open files")))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Too many"):
        fork()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_supervisor_that_lacks_descriptors_for_a_moment_tries_again(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """A worker dies; its successor cannot be forked. The supervisor died of that."""
    daemon = start_daemon()
    daemon.tolerate.add(" ERROR ")
    limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(daemon.pid("worker 1"), signal.SIGKILL)
    wait_for("the lack to be told", lambda: "worker 1 cannot be started: Too many open files" in daemon.log)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limits)
    with daemon.client() as client:
        assert client.query(nginx.url, timeout=20_000).ok == 1


def test_two_workers_share_the_load_of_one_origin(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = hanging(start_origin)
    daemon = start_daemon(workers=2)
    with Wire(daemon.socket) as wire, daemon.client() as client:
        wire.send(*([0, msgid, "query", [origin.url]] for msgid in range(20)))
        wait_for("all in flight", lambda: client.stats()["in_flight"] == 20)
        assert sorted(row["in_flight"] for row in client.stats()["workers"]) == [0, 20]  # who has connections
        wire.send(*([0, msgid, "query", [origin.url]] for msgid in range(20, 100)))
        wait_for("all in flight", lambda: client.stats()["in_flight"] == 100)
        assert min(row["in_flight"] for row in client.stats()["workers"]) >= 32  # busy: it spills
        origin.release.set()
        assert {wire.receive()[3]["ok"] for _ in range(100)} == {1}


def test_the_log_has_the_life_of_a_daemon(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    assert daemon.terminate() == 0
    events = [
        "hacd starts: 1 workers",
        "listening on",
        "worker 1",
        "ready",
        "SIGTERM",
        "stopping: 0 in flight",
        "hacd ends",
    ]
    places = [daemon.log.index(event) for event in events]
    assert places == sorted(places)


def test_a_client_finds_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(HacdError, match=r"No such file or directory: is hacd running"):
        Client(str(tmp_path / "none")).ping()
