"""Files of routes: what is refused, at the start, at a reload and by `hacd check`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import pytest

from hacd import Refused
from hacd.errors import SettingsError
from hacd.front.routing.script import check_apart, load
from hacd.routes import escape, route
from tests.conftest import StartDaemon, StartOrigin
from tests.support.origins import answer
from tests.support.routes import write_routes
from tests.support.waiting import wait_for
from tests.support.wire import Wire

WRONG = {
    "ctrl-c": ("raise KeyboardInterrupt\n", ":3: KeyboardInterrupt"),
    "odd text": ("class E(Exception):\n    __str__ = None\nraise E\n", ":5: E: its text raised TypeError"),
    "syntax": ("def r(tx:\n", ":3: '(' was never closed"),
    "raises": ("x = 1\n1 / 0\n", ":4: ZeroDivisionError: division by zero"),
    "exits": ("import sys; sys.exit('no')\n", ":3: SystemExit: no"),
    "no such module": ("import no_such_module\n", ":3: ModuleNotFoundError: No module named 'no_such_module'"),
    "no routes": ("x = 1\n", ': no route in it: @route("NAME") before a function makes one'),
    "no name": ("@route('')\ndef r(tx): pass\n", ":3: a route needs a name"),
    "name": ("@route(5)\ndef r(tx): pass\n", ":3: bad_request: route: 5 is wrong"),
    "long name": (f"@route('{'R' * 256}')\ndef r(tx): pass\n", ":3: bad_request: route: 'RRR"),
    "twice": ("@route('R')\ndef r(tx): pass\n@route('R')\ndef s(tx): pass\n", ":5: route 'R' is there twice"),
    "no argument": ("@route('R')\ndef r(): pass\n", ":3: route 'R': one argument, the transaction, would be right"),
    "two": ("@route('R')\ndef r(tx, y): pass\n", ":3: route 'R': one argument, the transaction, would be right"),
    "yields": ("@route('R')\ndef r(tx): yield\n", ":3: route 'R': it yields: def without yield"),
    "class": ("@route('R')\nclass R: pass\n", ": route 'R': a type is wrong: a function would be right"),
    "NUL": ("x = '\0'\n", ": source code string cannot contain null bytes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file(tmp_path: Path, name: str) -> None:
    text, error = WRONG[name]
    file = write_routes(tmp_path, text)
    with pytest.raises(SettingsError) as wrong:
        load(str(file))
    assert str(wrong.value).startswith(f"hacd.routes: {file}{error}")
    assert "\n" not in str(wrong.value)


def test_no_file() -> None:
    with pytest.raises(SettingsError, match=r"hacd\.routes: /no/such: No such file"):
        load("/no/such")


def test_modules_beside_the_file(tmp_path: Path) -> None:
    """They are found, and a reload reads them anew; that of a wrong file leaves them as they were."""
    searched = list(sys.path)
    (tmp_path / "beside_routes.py").write_text("VALUE = 1\n")
    file = write_routes(tmp_path, "import beside_routes\n@route(f'R{beside_routes.VALUE}')\ndef r(tx): pass\n")
    assert list(load(str(file))) == ["R1"]
    (tmp_path / "beside_routes.py").write_text("VALUE = 22\n")
    assert list(load(str(file))) == ["R22"]
    before = sys.modules["beside_routes"]
    (tmp_path / "beside_routes.py").write_text("VALUE = 1 / 0\n")
    with pytest.raises(SettingsError, match="ZeroDivisionError"):
        load(str(file))
    assert sys.modules["beside_routes"] is before
    (tmp_path / "beside_routes.py").write_text("VALUE = 1\n")
    write_routes(tmp_path, "import beside_routes\n@route('R')\ndef r(tx): pass\n@route('R')\ndef s(tx): pass\n")
    with pytest.raises(SettingsError, match="route 'R' is there twice"):
        load(str(file))
    assert sys.modules.pop("beside_routes") is before
    sys.path[:] = searched


def test_loaded_by_others_the_decorator_does_nothing() -> None:
    def function(tx: object) -> None:
        pass

    assert route("R")(function) is function
    assert escape("$5 for $rU") == "$$5 for $$rU"


def run(command: str, file: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "hacd.toml"
    config.write_text(f'[hacd]\nroutes = "{file}"\n')
    words = [sys.executable, "-m", "hacd", command, "-c", str(config)]
    words += ["--socket", str(tmp_path / "hacd.sock")] if command == "run" else []
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("text", "error"),
    [("1 / 0\n", ":3: ZeroDivisionError: division by zero"), ("import os; os._exit(0)\n", "")],
)
def test_wrong_file_at_the_start(tmp_path: Path, command: str, text: str, error: str) -> None:
    file = write_routes(tmp_path, text)
    done = run(command, file, tmp_path)
    if error:
        assert (done.returncode, done.stderr) == (78, f"hacd: {tmp_path}/hacd.toml: hacd.routes: {file}{error}\n")
    else:
        assert done.returncode == 78
        assert done.stderr.startswith(
            f"hacd: {tmp_path}/hacd.toml: hacd.routes: {file}: it ended the process that read it"
        )
    assert not (tmp_path / "hacd.sock").exists()


def test_right_file_is_checked(tmp_path: Path) -> None:
    assert run("check", write_routes(tmp_path, "@route('R')\ndef r(tx): pass\n"), tmp_path).returncode == 0


def test_modules_that_a_route_imports_when_it_runs(start_daemon: StartDaemon, tmp_path: Path) -> None:
    package = tmp_path / "helpers_of_routes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("VALUE = 1\n")
    text = "@route('R')\ndef r(tx):\n    from helpers_of_routes.one import VALUE\n    tx.reply(VALUE)\n"
    daemon = start_daemon(routes=write_routes(tmp_path, text))
    with daemon.client() as client:
        assert client.run("R") == 1
        (package / "one.py").write_text("VALUE = 22\n")
        client.reload()
        assert client.run("R") == 22


@pytest.mark.parametrize("text", ["raise KeyboardInterrupt\n", "import os; os._exit(3)\n"])
def test_reload_of_a_file_that_would_end_the_front(start_daemon: StartDaemon, tmp_path: Path, text: str) -> None:
    daemon = start_daemon(routes=write_routes(tmp_path, replying(1)))
    daemon.tolerate.add(" ERROR ")
    front = daemon.pid("front")
    write_routes(tmp_path, text)
    with daemon.client() as client:
        with pytest.raises(Refused, match=r"bad_request: reload: --set routes: hacd\.routes: "):
            client.reload()
        assert client.run("R") == 1
    assert daemon.pid("front") == front


def replying(value: int) -> str:
    return f"@route('R')\ndef r(tx): tx.reply({value})\n"


def test_reload(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = write_routes(tmp_path, replying(1))
    daemon = start_daemon(routes=file)
    daemon.tolerate.add(" ERROR ")
    with daemon.client() as client:
        assert client.run("R") == 1
        write_routes(tmp_path, replying(2))
        client.reload()
        assert client.run("R") == 2
        write_routes(tmp_path, "def r(tx:\n")
        with pytest.raises(Refused, match=r"reload: --set routes: hacd.routes: .*routes.py:3: '\(' was never closed"):
            client.reload()
        assert client.run("R") == 2  # the old routes stay
        write_routes(tmp_path, replying(3))
        os.kill(daemon.process.pid, signal.SIGHUP)
        wait_for("the reload", lambda: client.run("R") == 3)
        with pytest.raises(Refused, match="No such file"):
            client.set("routes", "/no/such")
        assert client.run("R") == 3
        client.set("routes", "")
        with pytest.raises(Refused, match="unknown_route"):
            client.run("R")


def test_suspended_transactions_resume_in_the_new_routes(
    start_daemon: StartDaemon, start_origin: StartOrigin, tmp_path: Path
) -> None:
    origin = start_origin(lambda sock, head: answer(sock, head) if origin.release.wait(20) else None)
    text = f"""
    @route("A")
    def a(tx):
        tx.http_async_query("{origin.url}", tx.vars["to"])

    @route("B")
    def b(tx):
        tx.reply("REPLY")

    @route("C")
    def c(tx):
        tx.reply("REPLY")
    """
    daemon = start_daemon(routes=write_routes(tmp_path, text.replace("REPLY", "old")))
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "run", ["A", {"to": "B"}]], [0, 2, "run", ["A", {"to": "C"}]])
        wait_for("both", lambda: len(origin.heads) == 2)
        write_routes(tmp_path, text.split('    @route("C")')[0].replace("REPLY", "new"))
        with daemon.client() as client:
            client.reload()
        origin.release.set()
        ends = {message[1]: message[2:] for message in (wire.receive(), wire.receive())}
    assert ends[1] == [None, "new"]
    assert ends[2][0]["code"] == "unknown_route"


def test_front_that_starts_again_with_a_wrong_file_serves_without_routes(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(routes=write_routes(tmp_path, replying(1)))
    daemon.tolerate.add(" ERROR ")
    front = daemon.pid("front")
    write_routes(tmp_path, "1 / 0\n")
    os.kill(front, signal.SIGKILL)
    wait_for("another front", lambda: "no routes: hacd.routes: " in daemon.log)
    with daemon.client() as client:
        with pytest.raises(Refused, match="unknown_route"):
            client.run("R")
        assert client.ping()["pid"] != front


def test_a_file_is_judged_however_many_descriptors_are_open(tmp_path: Path) -> None:
    """That of the pipe to who judges it was above 1023 in a front with so many callers, which died of a reload."""
    file = write_routes(tmp_path, "@route('R')\ndef r(tx): pass\n")
    with open(os.devnull, "rb") as null, ExitStack() as opened:
        while (fd := os.dup(null.fileno())) < 1024:
            opened.callback(os.close, fd)
        opened.callback(os.close, fd)
        check_apart(str(file))


@pytest.mark.parametrize("call", ["pipe", "fork"])
def test_a_file_that_cannot_be_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The system has no descriptor, or no process, left: a reload is refused, and the front goes on."""
    file = write_routes(tmp_path, "@route('R')\ndef r(tx): pass\n")
    monkeypatch.setattr(os, call, Mock(side_effect=OSError(24, "Too many open files")))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SettingsError, match=r"hacd\.routes: .*: it cannot be judged: Too many open files"):
        check_apart(str(file))
    assert len(os.listdir("/proc/self/fd")) == before
