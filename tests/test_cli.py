"""The command as a shell sees it: what it prints where, and its exit code."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pycurl
import pytest

from hacd import Client, __version__
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import Httpbin, Nginx, RawOrigin, answer
from tests.support.waiting import PATIENCE, wait_for

HACD = (sys.executable, "-m", "hacd")
COUNTERS = ("requests", "replies", "errors", "timeouts", "in_flight")


def environment(**variables: str) -> dict[str, str]:
    """The tests' own, without what would tell hacd where a daemon is."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HACD_", "XDG_"))} | variables


class Said:
    """What a command said, and how it ended. No command ever ends in a traceback."""

    def __init__(self, *arguments: str, stdin: bytes = b"", **variables: str) -> None:
        done = subprocess.run(
            [*HACD, *arguments], input=stdin, capture_output=True, timeout=2 * PATIENCE, env=environment(**variables)
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr.decode()

    @property
    def error(self) -> str:
        """The one line on stderr, of a command that failed and printed nothing else."""
        assert self.code != 0
        assert self.out == b""
        [line] = self.err.splitlines()
        return line


Ask = Callable[..., Said]


@pytest.fixture
def ask(daemon: Daemon) -> Ask:
    """`ask(command, *arguments)`: a command to the module's daemon."""
    return lambda command, *arguments, **more: Said(command, "--socket", daemon.socket, *arguments, **more)


@pytest.fixture
def origin(start_origin: StartOrigin) -> RawOrigin:
    """An origin that notes what it is asked."""
    return start_origin(answer)


@pytest.fixture
def hangs(start_origin: StartOrigin) -> RawOrigin:
    """An origin that never answers."""
    return start_origin(lambda _sock, _head: None)


class Waiting:
    """A `hacd query` that waits for an origin that never answers."""

    def __init__(self, daemon: Daemon, url: str, *arguments: str) -> None:
        self._daemon = daemon
        self._url = url
        self.process = subprocess.Popen(
            [*HACD, "query", "--socket", daemon.socket, "--timeout", "60000", url, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )

    def id(self) -> str:
        """Its transaction's, once it is in flight."""
        with self._daemon.client() as client:
            return wait_for("the query to be in flight", lambda: self._find(client))

    def _find(self, client: Client) -> str:
        assert self.process.poll() is None
        return next((row["id"] for row in client.transactions() if row["url"] == self._url), "")

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said of it."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert out == b""
        return self.process.returncode, err.decode()


Wait = Callable[..., Waiting]


@pytest.fixture
def wait(daemon: Daemon) -> Iterator[Wait]:
    """`wait(url)`: a command that waits, and is gone after the test."""
    started: list[Waiting] = []

    def start(url: str, *arguments: str) -> Waiting:
        started.append(Waiting(daemon, url, *arguments))
        return started[-1]

    yield start
    for waiting in started:
        waiting.process.kill()
        waiting.process.communicate()


# -- query


def test_query_prints_the_body(ask: Ask, origin: RawOrigin) -> None:
    said = ask("query", f"{origin.url}/path?a=b")
    assert (said.code, said.out, said.err) == (0, b"ok", "")
    assert origin.heads[0].startswith(b"GET /path?a=b HTTP/1.1\r\n")


def test_query_sends_method_and_headers(ask: Ask, origin: RawOrigin) -> None:
    said = ask("query", "-X", "PURGE", "-H", "X-Foo: bar", "--hdr", "X-Bar: 1", origin.url)
    assert said.code == 0
    head = origin.heads[0]
    assert head.startswith(b"PURGE / ")
    assert b"X-Foo: bar\r\n" in head
    assert b"X-Bar: 1\r\n" in head


@pytest.mark.parametrize("option", ["-d", "--body"])
def test_query_sends_a_body(ask: Ask, httpbin: Httpbin, option: str) -> None:
    said = ask("query", option, "r_uri=grün", f"{httpbin.url}/anything")
    seen = json.loads(said.out)
    assert (seen["method"], seen["form"]) == ("POST", {"r_uri": "grün"})


def test_query_sends_a_body_that_is_no_text(ask: Ask, start_origin: StartOrigin) -> None:
    echo = start_origin(lambda sock, head: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + head[-2:]))
    assert ask("query", "-d", os.fsdecode(b"\xff\xfe"), echo.url).out == b"\xff\xfe"


def test_query_sends_a_file(ask: Ask, httpbin: Httpbin, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"\x00\xff" * 50_000)
    arguments = ("-H", "Content-Type: application/octet-stream", f"{httpbin.url}/anything")
    seen = json.loads(ask("query", "-d", f"@{path}", *arguments).out)
    assert seen["headers"]["Content-Length"] == "100000"
    assert base64.b64decode(seen["data"].partition(",")[2]) == path.read_bytes()


def test_query_sends_stdin(ask: Ask, httpbin: Httpbin) -> None:
    arguments = ("-d", "@-", "-H", "Content-Type: text/plain", f"{httpbin.url}/anything")
    assert json.loads(ask("query", *arguments, stdin=b"two\nlines\n").out)["data"] == "two\nlines\n"


def test_query_prints_bytes_as_they_are(ask: Ask, nginx: Nginx) -> None:
    data = bytes(range(256)) * 300
    (nginx.files / "cli-bytes").write_bytes(data)
    assert ask("query", f"{nginx.url}/file/cli-bytes").out == data


@pytest.mark.parametrize("option", ["-i", "--include"])
def test_query_with_the_header_block(ask: Ask, origin: RawOrigin, option: str) -> None:
    assert ask("query", option, origin.url).out == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_query_writes_to_a_file(ask: Ask, origin: RawOrigin, tmp_path: Path) -> None:
    path = tmp_path / "out"
    said = ask("query", "-o", str(path), origin.url)
    assert (said.code, said.out, said.err) == (0, b"", "")
    assert path.read_bytes() == b"ok"


def test_query_as_json(ask: Ask, origin: RawOrigin) -> None:
    said = ask("query", "--json", "--route", "HTTP_REPLY", "--xdata", "mine", origin.url)
    reply = json.loads(said.out)
    assert said.out.count(b"\n") == 1
    assert (reply["ok"], reply["code"], reply["rs"], reply["rr"], reply["err"]) == (1, 0, 200, "OK", None)
    assert (reply["route"], reply["xdata"], reply["rb"]) == ("HTTP_REPLY", "mine", "ok")
    assert reply["head"] == "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    assert reply["time"]["total"] > 0


def test_query_as_json_of_what_is_no_text(ask: Ask, start_origin: StartOrigin) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX: \xff\r\nContent-Length: 2\r\n\r\n"
    origin = start_origin(lambda sock, _head: sock.sendall(raw + b"\x00\xff"))
    reply = json.loads(ask("query", "--json", origin.url).out)
    assert (reply["rb"], base64.b64decode(reply["rb_base64"])) == (None, b"\x00\xff")
    assert (reply["head"], base64.b64decode(reply["head_base64"])) == (None, raw)


def test_query_as_json_of_an_error(ask: Ask, nobody: str) -> None:
    said = ask("query", "--json", nobody)
    assert said.code == 7
    assert json.loads(said.out)["code"] == 7


def test_query_fail(ask: Ask, httpbin: Httpbin) -> None:
    said = ask("query", "--fail", f"{httpbin.url}/status/418")
    assert said.code == 22
    assert "418" in said.error


def test_query_fail_of_what_does_not(ask: Ask, httpbin: Httpbin) -> None:
    assert ask("query", "--fail", f"{httpbin.url}/status/302").code == 0


def test_query_without_fail(ask: Ask, httpbin: Httpbin) -> None:
    said = ask("query", f"{httpbin.url}/status/418")
    assert (said.code, said.err) == (0, "")
    assert b"teapot" in said.out


def test_query_that_is_not_suspended(ask: Ask, daemon: Daemon, hangs: RawOrigin) -> None:
    said = ask("query", "--no-suspend", "--timeout", "60000", hangs.url)
    assert (said.code, said.err) == (0, "")
    with daemon.client() as client:
        assert client.cancel(said.out.decode().strip())


# -- exit codes, each with one line on stderr


def test_exit_code_of_a_refused_connection(ask: Ask, nobody: str) -> None:
    said = ask("query", nobody)
    assert said.code == 7
    assert said.error.startswith("hacd query: (7) ")


def test_exit_code_of_no_such_host(ask: Ask) -> None:
    said = ask("query", "--timeout", "20000", "http://no-such-host.invalid/")
    assert said.code == 6
    assert said.error.startswith("hacd query: (6) ")


def test_exit_code_of_a_timeout(ask: Ask, hangs: RawOrigin) -> None:
    said = ask("query", "--timeout", "100", hangs.url)
    assert said.code == 28
    assert said.error.startswith("hacd query: (28) ")


@pytest.mark.parametrize(
    "command", [("query", "http://127.0.0.1/"), ("stats",), ("transactions",), ("cancel", "1"), ("stop",)]
)
def test_exit_code_without_a_daemon(command: tuple[str, ...], tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    said = Said(*command, "--socket", path)
    assert said.code == 69
    assert said.error.startswith(f"hacd: {path}: No such file or directory")


@pytest.mark.parametrize("command", [("query", "http://127.0.0.1/"), ("stop",)])
def test_exit_code_of_a_stale_socket(command: tuple[str, ...], tmp_path: Path) -> None:
    path = str(tmp_path / "stale.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    said = Said(*command, "--socket", path)
    assert said.code == 69
    assert said.error.startswith(f"hacd: {path}: Connection refused")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("query", "ftp://127.0.0.1/"), "scheme 'ftp'"),
        (("query", "http://"), "no host"),
        (("query", "http://127.0.0.1/a b"), "character at"),
        (("query", "-H", "no header", "http://127.0.0.1/"), "hdr: "),
        (("query", "-H", "X: a\r\nY: b", "http://127.0.0.1/"), "hdr: "),
        (("query", "-H", "Content-Length: 5", "http://127.0.0.1/"), "hdr: Content-Length"),
        (("query", "-X", "G T", "http://127.0.0.1/"), "method: "),
        (("query", "--timeout", "0", "http://127.0.0.1/"), "timeout"),
        (("query", "--route", "two\nlines", "http://127.0.0.1/"), "route: "),
    ],
)
def test_exit_code_of_what_the_daemon_refuses(ask: Ask, arguments: tuple[str, ...], word: str) -> None:
    said = ask(*arguments)
    assert said.code == 2
    assert word in said.error


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("query",), "Missing argument 'URL'"),
        (("query", "--no-such-option", "http://127.0.0.1/"), "--no-such-option"),
        (("query", "http://127.0.0.1/", "http://127.0.0.1/"), "unexpected extra argument"),
        (("query", "--timeout", "soon", "http://127.0.0.1/"), "'soon' is not a valid integer"),
        (("query", "-d", "@/no/such/file", "http://127.0.0.1/"), "/no/such/file: No such file"),
        (("query", "-d", "@/", "http://127.0.0.1/"), "/: Is a directory"),
        (("query", "-X"), "-X"),
        (("no-such-command",), "No such command 'no-such-command'"),
        (("--no-such-option",), "--no-such-option"),
        (("cancel",), "Missing argument 'ID'"),
        (("stats", "surplus"), "unexpected extra argument"),
        (("check",), "--config"),
    ],
)
def test_exit_code_of_wrong_usage(arguments: tuple[str, ...], word: str) -> None:
    said = Said(*arguments)
    assert said.code == 2
    assert said.error.startswith("hacd")
    assert word in said.error


def test_output_that_cannot_be_written(ask: Ask, origin: RawOrigin) -> None:
    said = ask("query", "-o", "/no/such/directory/file", origin.url)
    assert said.code == 23
    assert "/no/such/directory/file: No such file or directory" in said.error


def test_no_command_shows_what_there_is() -> None:
    said = Said()
    assert said.code == 2
    assert "query" in said.err


@pytest.mark.parametrize(
    "command", [(), ("query",), ("run",), ("check",), ("stats",), ("transactions",), ("cancel",), ("stop",)]
)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(command: tuple[str, ...], option: str) -> None:
    said = Said(*command, option)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(b"Usage: ")


# -- stats, transactions, cancel


def test_stats(ask: Ask) -> None:
    said = ask("stats")
    assert (said.code, said.err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in said.out.decode().splitlines())
    assert all(re.fullmatch("[0-9]+", lines[name]) for name in COUNTERS)
    assert lines["stopping"] == "false"
    assert all(re.match(r".{13} [^ ]", line) for line in said.out.decode().splitlines())
    assert re.fullmatch(r"1 +pid=\d+ in_flight=\d+ requests=\d+ replies=\d+ errors=\d+ timeouts=\d+.*", lines["worker"])


def test_stats_as_json(ask: Ask) -> None:
    said = ask("stats", "--json")
    stats = json.loads(said.out)
    assert all(type(stats[name]) is int for name in COUNTERS)
    assert [row["worker"] for row in stats["workers"]] == [1]


def test_transactions_and_cancel(ask: Ask, hangs: RawOrigin, wait: Wait) -> None:
    waiting = wait(f"{hangs.url}/hangs", "--route", "LATER")
    id_ = waiting.id()
    said = ask("transactions")
    head, *rows = [line.split() for line in said.out.decode().splitlines()]
    assert head == ["ID", "AGE_MS", "WORKER", "ROUTE", "URL"]
    [row] = [row for row in rows if row[0] == id_]
    assert int(row[1]) >= 0
    assert row[2:] == ["1", "LATER", f"{hangs.url}/hangs"]

    said = ask("cancel", id_)
    assert (said.code, said.out, said.err) == (0, b"", "")
    code, err = waiting.end()
    assert (code, err) == (42, "hacd query: (42) cancelled\n")
    assert id_ not in ask("transactions").out.decode()


def test_transactions_hide_user_info(ask: Ask, hangs: RawOrigin, daemon: Daemon) -> None:
    with daemon.client() as client:
        id_ = client.send(hangs.url.replace("http://", "http://bob:hunter2@"), timeout=60_000)
        said = ask("transactions")
        assert id_ in said.out.decode()
        assert b"hunter2" not in said.out
        assert client.cancel(id_)


@pytest.mark.parametrize("id_", ["1", "no-such-id", "ffffff-1000000", "-1", "zzz-zzz"])
def test_cancel_of_an_unknown_id(ask: Ask, id_: str) -> None:
    said = ask("cancel", "--", id_)
    assert said.code == 1
    assert said.error == f"hacd cancel: {id_}: not in flight"


def test_query_that_is_interrupted_is_called_off(daemon: Daemon, hangs: RawOrigin, wait: Wait) -> None:
    waiting = wait(f"{hangs.url}/interrupted")
    id_ = waiting.id()
    waiting.process.send_signal(signal.SIGINT)
    code, err = waiting.end()
    assert (code, "Traceback" in err) == (130, False)
    with daemon.client() as client:
        wait_for("its query to be gone", lambda: id_ not in {row["id"] for row in client.transactions()})


# -- check, --version, HACD_SOCKET


def test_check(tmp_path: Path) -> None:
    path = tmp_path / "hacd.toml"
    path.write_text("[http_async_client]\nworkers = 4\n")
    said = Said("check", "-c", str(path))
    assert (said.code, said.out, said.err) == (0, f"{path}: ok\n".encode(), "")


def test_check_of_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "hacd.toml"
    path.write_text("[http_async_client]\nworkers = 0\n")
    said = Said("check", "-c", str(path))
    assert said.code == 78
    right = "an integer from 1 to 64 would be right"
    assert said.error == f"hacd: {path}: http_async_client.workers: 0 is wrong: {right}"


def test_version() -> None:
    said = Said("--version")
    assert (said.code, said.err) == (0, "")
    line = said.out.decode()
    assert line.startswith(f"hacd {__version__} (loop ")
    assert f"libcurl/{pycurl.version_info()[1]}" in line
    assert re.search(r"pycurl/[0-9.]+\)\n$", line)


def test_each_command_is_told_in_a_line() -> None:
    lines = Said("--help").out.decode().partition("Commands:\n")[2].splitlines()
    assert len(lines) > 10
    assert all(re.fullmatch(r"  [a-z-]+ +[A-Z].*[^.]\.", line) for line in lines)


def test_empty_path_of_a_socket() -> None:
    said = Said("stats", "--socket", "")
    assert (said.code, said.error) == (69, "hacd: the socket's path is empty: leave it out for the default")


def test_socket_of_the_environment(daemon: Daemon, tmp_path: Path) -> None:
    assert Said("stats", HACD_SOCKET=daemon.socket).code == 0
    none = str(tmp_path / "none.sock")
    assert none in Said("stats", HACD_SOCKET=none).error
    assert Said("stats", "--socket", daemon.socket, HACD_SOCKET=none).code == 0


def test_socket_of_the_runtime_directory(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "hacd").mkdir()
    (tmp_path / "hacd" / "hacd.sock").symlink_to(daemon.socket)
    assert Said("stats", XDG_RUNTIME_DIR=str(tmp_path)).code == 0


# -- stop


def test_stop(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    daemon.children()
    said = Said("stop", "--socket", daemon.socket)
    assert (said.code, said.out, said.err) == (0, b"", "")
    assert list(Path(daemon.directory).glob("*.sock*")) == []
    assert daemon.process.wait(PATIENCE) == 0
    assert Said("stop", "--socket", daemon.socket).code == 69


def test_stop_waits_for_what_is_in_flight(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        slow.release.wait(PATIENCE)
        answer(sock, head)

    slow = start_origin(script)
    daemon = start_daemon(drain_timeout=20_000)
    query = Waiting(daemon, f"{slow.url}/slow")
    query.id()
    stop = subprocess.Popen([*HACD, "stop", "--socket", daemon.socket], env=environment())
    wait_for("the daemon to be stopping", lambda: daemon.stats()["stopping"])
    said = Said("query", "--socket", daemon.socket, slow.url)
    assert (said.code, "stopping" in said.error) == (75, True)
    assert (stop.poll(), query.process.poll()) == (None, None)
    slow.release.set()
    assert query.process.communicate(timeout=PATIENCE) == (b"ok", b"")
    assert (query.process.returncode, stop.wait(PATIENCE), daemon.process.wait(PATIENCE)) == (0, 0, 0)


# -- a stdout that takes nothing


def run_with(stdout: IO[bytes] | int, *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command with that for its stdout."""
    done = subprocess.run(
        [*HACD, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, env=environment()
    )
    return done.returncode, done.stderr.decode()


@pytest.fixture(params=["query", "query --json", "stats", "transactions", "--version", "--help"])
def printing(request: pytest.FixtureRequest, daemon: Daemon, nginx: Nginx) -> list[str]:
    """A command that prints."""
    command: list[str] = request.param.split()
    if command[0].startswith("--"):
        return command
    return [*command, "--socket", daemon.socket, *([nginx.url] if "query" in command else [])]


def test_reader_that_has_enough(printing: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code, err = run_with(writer, *printing)
    os.close(writer)
    assert (code, err) == (141, "")


def test_full_disk(printing: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        code, err = run_with(full, *printing)
    assert code != 0
    assert "Traceback" not in err
    assert "No space left on device" in err


def test_stdout_that_is_closed(printing: list[str]) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *HACD, *printing]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
    assert "Traceback" not in done.stderr.decode()


def test_daemon_whose_standard_files_are_closed(tmp_path: Path, nginx: Nginx) -> None:
    """As a start-up script may leave them. What it logs must not go to a socket that has their number."""
    path = str(tmp_path / "hacd.sock")
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *HACD, "run", "--socket", path]
    daemon = subprocess.Popen(command, env=environment())
    try:
        wait_for("its socket, or its end", lambda: daemon.poll() is not None or Path(path).exists())
        assert daemon.poll() is None
        said = Said("query", "--socket", path, "--timeout", "10000", f"{nginx.url}/short/")
        assert (said.code, said.out, said.err) == (0, b"closed", "")
        assert Said("stop", "--socket", path).code == 0
        assert daemon.wait(PATIENCE) == 0
    finally:
        daemon.kill()
        daemon.wait()


# -- what is loaded for whom


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import hacd", "pycurl pyuv uvloop asyncio msgpack click msgspec"),
        ("from hacd import Client, Reply, Refused", "pycurl pyuv uvloop asyncio click msgspec"),
        ("from hacd import AsyncClient", "pycurl pyuv uvloop click msgspec"),
        ("import hacd.cli.main", "pycurl pyuv uvloop asyncio msgspec"),
        ("import hacd.supervisor.supervisor", "pycurl pyuv uvloop asyncio"),
    ],
)
def test_import_loads_no_more_than_it_needs(statement: str, forbidden: str) -> None:
    code = f"{statement}\nimport sys\nprint([name for name in {forbidden.split()!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
