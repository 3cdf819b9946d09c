"""What systemd is told of the daemon, and the socket that it hands over."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hacd import Client
from hacd.settings.table import Hacd
from hacd.supervisor import sockets
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import FRONTS, Daemon
from tests.support.origins import REPLY, Nginx
from tests.support.routes import write_routes
from tests.support.stranger import needs_root
from tests.support.systemd import Manager, handed_over, listening
from tests.support.waiting import PATIENCE, wait_for
from tests.support.wire import Wire

HACD = [sys.executable, "-m", "hacd"]

#: loaded by Python at its start: the last of three forks (front, worker 1, worker 2) stops before it does anything
STOPS_ITSELF = """
import os, signal, sys
if sys.orig_argv[1:4] == ["-m", "hacd", "run"]:
    forks, fork = [], os.fork
    def stopping():
        pid = fork()
        forks.append(pid)
        if pid == 0 and len(forks) == 3:
            os.kill(os.getpid(), signal.SIGSTOP)
        return pid
    os.fork = stopping
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """The variables of a daemon that notifies the manager, and is watched by it."""
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}


@pytest.fixture
def activated(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """`activated(**settings)`: a daemon on a socket that outlives it, the same each time; ready."""
    directory = tmp_path / "activated"
    directory.mkdir()
    started: list[Daemon] = []
    with listening(directory / "hacd.sock") as sock:

        def start(**settings: object) -> Daemon:
            started.append(Daemon(directory, activated=sock, **settings))  # type: ignore[arg-type]
            return started[-1].wait_ready()

        yield start
        for daemon in started:
            daemon.close()


def fails(*command: str, fd: int | None = None, **variables: str) -> str:
    """The one line that a daemon ends with, exit code 78."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HACD_")} | variables
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, env=environment, pass_fds=[fd] if fd else []
    )
    assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stderr
    return done.stderr


# -- notify


def test_ready_when_every_worker_has_answered_and_not_before(
    tmp_path: Path, manager: Manager, told: dict[str, str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STOPS_ITSELF)
    directory = tmp_path / "daemon"
    directory.mkdir()
    daemon = Daemon(directory, workers=2, variables={**told, "PYTHONPATH": str(tmp_path)})
    (stopped,) = wait_for(
        "the worker that stops itself", lambda: [c for c in daemon.children() if c.status() == "stopped"]
    )
    wait_for("the other worker", lambda: "worker 1" in daemon.log)
    manager.wait_for_status("starting: 0 in flight")
    daemon.process.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: "reloaded by SIGHUP" in daemon.log)
    manager.wait_for("WATCHDOG", "1", len(manager.messages))  # said after the front answered to the reload
    assert manager.of("READY", "RELOADING") == []
    stopped.resume()
    manager.wait_for("READY", "1")
    wait_for("the log to say it too", lambda: ": ready" in daemon.log)
    daemon.close()
    assert manager.of("READY", "RELOADING", "STOPPING") == ["1", "1"]


def test_status_has_figures(
    start_daemon: StartDaemon, manager: Manager, told: dict[str, str], nginx: Nginx, nobody: str
) -> None:
    daemon = start_daemon(variables=told)
    with daemon.client() as client:
        client.query(nginx.url)
        client.query(nobody)
    manager.wait_for_status("ready: 0 in flight, 2 requests, 1 replies, 1 errors, 0 timeouts")
    os.kill(daemon.pid("front"), signal.SIGKILL)
    manager.wait_for_status("ready; front: backoff")
    wait_for("the next front", lambda: manager.of("STATUS")[-1].startswith("ready: 0 in flight, 0 requests"))
    assert manager.of("READY") == ["1"]


def test_stopping_asks_for_the_time_that_a_drain_takes(
    start_daemon: StartDaemon, manager: Manager, told: dict[str, str]
) -> None:
    daemon = start_daemon(variables=told, drain_timeout=100_000)
    assert daemon.terminate() == 0
    (stopping,) = (message for message in manager.messages if "STOPPING" in message)
    assert 100_000_000 < int(stopping["EXTEND_TIMEOUT_USEC"]) < 120_000_000
    assert manager.of("STATUS")[-1].startswith("stopping")


def test_an_abstract_address(start_daemon: StartDaemon, tmp_path: Path) -> None:
    address = f"@{tmp_path}"
    with Manager(address) as manager:
        start_daemon(variables={"NOTIFY_SOCKET": address})
        manager.wait_for("READY", "1")
        assert manager.of("WATCHDOG") == []


@pytest.mark.parametrize("loop", ["pyuv", "uvloop"])
def test_watchdog_is_the_fronts_loop(
    start_daemon: StartDaemon, manager: Manager, told: dict[str, str], loop: str
) -> None:
    daemon = start_daemon(loop=loop, variables=told)
    front = psutil.Process(daemon.pid("front"))
    manager.wait_for("WATCHDOG", "1", len(manager.messages))
    front.suspend()
    wait_for("nothing for two intervals", lambda: manager.silent(0.6))
    seen = len(manager.messages)
    front.resume()
    manager.wait_for("WATCHDOG", "1", seen)


def test_the_drain_of_a_daemon_that_is_watched_feeds_it(
    start_daemon: StartDaemon, start_origin: StartOrigin, manager: Manager, told: dict[str, str]
) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(variables=told, drain_timeout=1000)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 20_000}]])
        wait_for("the query to be in flight", lambda: origin.heads)
        daemon.process.terminate()
        manager.wait_for("STOPPING", "1")
        manager.wait_for("WATCHDOG", "1", len(manager.messages))
        assert wire.receive()[3]["code"] == 42


def test_a_watchdog_of_another_process_is_not_fed(
    start_daemon: StartDaemon, manager: Manager, told: dict[str, str]
) -> None:
    start_daemon(variables={**told, "WATCHDOG_PID": "1"})
    manager.wait_for_status("ready")
    assert manager.of("WATCHDOG") == []


def test_a_reload_says_when_it_begins_and_when_it_is_over(
    tmp_path: Path, start_daemon: StartDaemon, manager: Manager, told: dict[str, str]
) -> None:
    config = tmp_path / "hacd.toml"
    config.write_text("")
    daemon = start_daemon(config=config, variables=told)
    manager.wait_for("READY", "1")  # before that, a reload takes nothing back
    for text, says in (("[limits]\nmax_body = 5\n", "reloaded by SIGHUP"), ("nonsense", "reload refused")):
        config.write_text(text)
        begin, seen = time.monotonic_ns() // 1000, len(manager.messages)
        daemon.process.send_signal(signal.SIGHUP)
        manager.wait_for("READY", "1", seen)
        assert says in daemon.log
        ((number, reloading),) = (pair for pair in enumerate(manager.messages[seen:], seen) if "RELOADING" in pair[1])
        assert begin <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert number < max(number for number, message in enumerate(manager.messages) if "READY" in message)
    daemon.tolerate.add(" ERROR ")


def test_a_reload_that_a_front_which_hangs_never_answers(
    tmp_path: Path, start_daemon: StartDaemon, manager: Manager, told: dict[str, str]
) -> None:
    """Its successor is not asked again, and the unit does not stay in its reload."""
    path = write_routes(
        tmp_path,
        """
        @route("ENDLESS")
        def endless(tx):
            tx.log("warning in the route")
            while True:
                pass
        """,
    )
    daemon = start_daemon(routes=path, variables=told, front_timeout=1000)
    daemon.tolerate.add(" ERROR ")
    manager.wait_for("READY", "1")
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "run", ["ENDLESS"]])
        wait_for("the route", lambda: "in the route" in daemon.log)
        seen = len(manager.messages)
        daemon.process.send_signal(signal.SIGHUP)
        manager.wait_for("READY", "1", seen)
    assert "the reload is given up" in daemon.log


def test_nobody_there_to_be_told(start_daemon: StartDaemon, tmp_path: Path, nginx: Nginx) -> None:
    daemon = start_daemon(variables={"NOTIFY_SOCKET": str(tmp_path / "none")})
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1
    wait_for("the warning", lambda: "systemd is not told READY: No such file" in daemon.log)


def test_what_is_systemds_is_no_business_of_routes(
    activated: Callable[..., Daemon], tmp_path: Path, manager: Manager, told: dict[str, str]
) -> None:
    text = """
    import os
    from hacd.routes import route

    @route("LOOK")
    def look(tx):
        names = [name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))]
        sockets = [fd for fd in range(256) if "/socket:" in os.path.realpath(f"/proc/self/fd/{fd}")]
        return names + [fd for fd in sockets if os.get_inheritable(fd)]
    """
    daemon = activated(routes=write_routes(tmp_path, text), variables=told)
    with daemon.client() as client:
        assert client.run("LOOK") == []


# -- activation


def test_a_socket_that_is_handed_over(activated: Callable[..., Daemon], nginx: Nginx) -> None:
    daemon = activated(socket_mode="0600", socket_owner="65534")
    mode = stat.S_IMODE(os.stat(daemon.socket).st_mode)
    with daemon.client() as client:
        assert client.query(nginx.url).ok == 1
        assert client.ping()["activated"] is True
    assert "hacd.socket_owner has no effect" in daemon.log
    assert stat.S_IMODE(os.stat(f"{daemon.socket}.workers").st_mode) == 0o600
    assert daemon.terminate() == 0
    assert stat.S_IMODE(os.stat(daemon.socket).st_mode) == mode != 0o600
    assert not os.path.exists(f"{daemon.socket}.workers")


@pytest.mark.parametrize("loop", ["pyuv", "uvloop"])
def test_who_dials_while_it_restarts_waits(
    activated: Callable[..., Daemon], start_origin: StartOrigin, loop: str
) -> None:
    def script(sock: socket.socket, _head: bytes) -> None:
        origin.release.wait(PATIENCE)
        sock.sendall(REPLY)

    origin = start_origin(script)
    old = activated(loop=loop, drain_timeout=20_000)
    with Wire(old.socket) as before:
        before.send([0, 1, "query", [origin.url]])
        wait_for("the query to be in flight", lambda: origin.heads)
        old.process.terminate()
        wait_for("the drain", lambda: old.log.count("in flight have 20000 ms to end") == FRONTS)
        with Wire(old.socket) as meanwhile:
            meanwhile.send([0, 1, "query", [origin.url]])
            origin.release.set()
            assert before.receive()[3]["ok"] == 1
            assert old.process.wait(PATIENCE) == 0
            with Wire(old.socket) as after:
                activated()
                assert meanwhile.receive()[3]["ok"] == 1
                assert after.call("ping", [])[0] is None


def test_stop_does_not_wake_the_next_daemon(tmp_path: Path) -> None:
    with listening(tmp_path / "hacd.sock") as sock:
        daemon = Daemon(tmp_path, activated=sock).wait_ready()
        subprocess.run([*HACD, "stop", "--socket", daemon.socket], check=True, timeout=PATIENCE)
        assert daemon.process.wait(PATIENCE) == 0
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.accept()
        daemon.close()


def test_variables_that_are_meant_for_another_process(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(variables={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    with daemon.client() as client:
        assert client.ping()["activated"] is False


def test_another_path_than_the_settings_have(activated: Callable[..., Daemon], tmp_path: Path) -> None:
    with listening(tmp_path / "elsewhere") as sock:
        daemon = Daemon(tmp_path, activated=sock).wait_ready()
        with Client(str(tmp_path / "elsewhere")) as client:
            assert client.ping()["activated"] is True
        assert f"{tmp_path}/hacd.sock is not listened on: systemd gave {tmp_path}/elsewhere" in daemon.log
        assert daemon.terminate() == 0


def stream(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return sock


def datagrams(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    return sock


def tcp(_path: Path) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def abstract(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(f"\0{path}")
    sock.listen()
    return sock


@pytest.mark.parametrize(
    ("make", "count", "says"),
    [
        (stream, "1", "descriptor 3 (hacd.socket) does not listen: one Unix stream socket"),
        (datagrams, "1", "is no stream socket"),
        (tcp, "1", "is no Unix socket"),
        (abstract, "1", "has no path"),
        (listening, "2", "'2' is wrong (hacd.socket): one Unix"),
        (listening, "many", "'many' is wrong"),
    ],
)
def test_what_is_handed_over_is_judged(
    tmp_path: Path, make: Callable[[Path], socket.socket], count: str, says: str
) -> None:
    with make(tmp_path / "sock") as sock:
        assert says in fails(*handed_over(sock, count), *HACD, "run", fd=sock.fileno())


def test_a_file_and_nothing_at_all_are_no_sockets(tmp_path: Path) -> None:
    start = f"os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); os.execv({HACD[0]!r}, {[*HACD, 'run']!r})"
    for third in ("os.dup2(os.open('/dev/null', os.O_RDONLY), 3)", "os.closerange(3, 9)"):
        assert "LISTEN_FDS: descriptor 3: " in fails(sys.executable, "-c", f"import os; {third}; {start}")


def test_a_path_with_no_room_for_that_of_the_workers(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.symlink_to(tmp_path)
    path = f"{tmp_path}/{'x' * (105 - len(str(tmp_path)))}"
    with listening(Path(path)) as sock:
        assert "the path is too long" in fails(*handed_over(sock), *HACD, "run", fd=sock.fileno())


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed")
def test_systemds_own_tool(tmp_path: Path, nginx: Nginx) -> None:
    path = tmp_path / "hacd.sock"
    command = ["systemd-socket-activate", "-E", "PATH", "-l", str(path), *HACD, "run", "--socket", str(path)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        wait_for("the socket", path.exists)
        with Client(str(path)) as client:  # which starts the daemon
            assert client.query(nginx.url, timeout=20_000).ok == 1
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert path.exists()


# -- whose the socket is


@needs_root
@pytest.mark.parametrize(("owner", "group"), [("nobody", "65534"), ("65534", "daemon"), ("", "daemon"), ("nobody", "")])
def test_owner_and_group(start_daemon: StartDaemon, owner: str, group: str) -> None:
    daemon = start_daemon(socket_owner=owner, socket_group=group)
    found = os.stat(daemon.socket)
    wanted = sockets.owner(Hacd(socket_owner=owner or "0", socket_group=group or "0"))
    assert (found.st_uid, found.st_gid) == wanted
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert os.stat(f"{daemon.socket}.workers").st_uid == 0


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("socket_owner", "no-such", "hacd.socket_owner: 'no-such' is wrong: there is no such user; name or number"),
        ("socket_group", "no-such", "hacd.socket_group: 'no-such' is wrong: there is no such group; name or number"),
        ("socket_owner", "4294967295", "there is no such user"),
        ("socket_group", "-1", "there is no such group"),
        ("socket_group", "²", "there is no such group"),
    ],
)
def test_no_such_owner(tmp_path: Path, setting: str, value: str, says: str) -> None:
    path = tmp_path / "hacd.sock"
    assert says in fails(*HACD, "run", "--socket", str(path), "--set", f"{setting}={value}")
    assert not path.exists()
    config = tmp_path / "hacd.toml"
    config.write_text(f'[hacd]\n{setting} = "{value}"\n')
    assert says in fails(*HACD, "check", "-c", str(config))


@needs_root
@pytest.mark.parametrize("setting", ["socket_owner", "socket_group"])
def test_a_socket_that_cannot_be_given_away(setting: str) -> None:
    program = (
        "import os, sys, tempfile\n"
        "from hacd.errors import SettingsError\nfrom hacd.settings.table import Hacd\n"
        "from hacd.supervisor import sockets\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with tempfile.TemporaryDirectory() as directory:\n"
        "    try:\n"
        f"        sockets.listen(directory + '/sock', Hacd({setting}='0'))\n"
        "    except SettingsError as error:\n"
        "        print(error, os.listdir(directory))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"hacd.{setting}: the socket cannot be given away: Operation not permitted: to run as root" in done.stdout
    assert done.stdout.endswith("would be right []\n")
