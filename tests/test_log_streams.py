"""stderr that takes nothing holds nobody up, and what Python would print there by itself is in the log."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacd import log
from hacd.log.entry import Entry, as_json, as_text
from hacd.log.streams import PIPE_BUF, Stream
from hacd.log.targets import Stderr, fitting
from tests.conftest import StartDaemon, StartRoutes
from tests.support.daemon import Daemon
from tests.support.origins import RawOrigin, answer
from tests.support.waiting import wait_for
from tests.support.wire import Wire

EVENT = Entry(1_769_860_800.1234, "info", "worker 1", 4242, "ab12cd-1000001", "R", "text")

#: lines; far more than a pipe has room for
MANY = 3000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def fill(stream: Stream) -> int:
    """Write lines until it takes none; how many it took."""
    for count in range(100_000):
        try:
            stream.write(b"x" * 99 + b"\n")
        except BlockingIOError:
            return count
    raise AssertionError("it takes all")


# -- a stream


def test_a_full_pipe_is_not_waited_for_and_stays_as_others_have_it(pipe: tuple[int, int]) -> None:
    stream = Stream(pipe[1])
    assert fill(stream) > 100
    assert not fcntl.fcntl(pipe[1], fcntl.F_GETFL) & os.O_NONBLOCK
    assert os.read(pipe[0], 1 << 20).endswith(b"x\n")
    stream.write(b"there is room\n")
    stream.close()


def test_a_pipe_of_another_user(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be opened anew."""

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(f"{path} {flags}")

    monkeypatch.setattr(os, "open", refuse)
    stream = Stream(pipe[1])
    monkeypatch.undo()
    assert fill(stream) > 100
    assert not fcntl.fcntl(pipe[1], fcntl.F_GETFL) & os.O_NONBLOCK
    stream.close()


def test_a_socket_that_nobody_reads() -> None:
    """As systemd's for stderr."""
    ours, theirs = socket.socketpair()
    stream = Stream(ours.fileno())
    assert fill(stream) > 100
    assert ours.getblocking()
    assert not fcntl.fcntl(ours.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK
    stream.close()
    theirs.close()
    ours.close()


def test_a_terminal_that_is_held() -> None:
    theirs, ours = pty.openpty()
    stream = Stream(ours)
    with pytest.raises(OSError, match=r"cut short|unavailable"):
        fill_terminal(stream)
    stream.close()
    os.close(ours)
    os.close(theirs)


def fill_terminal(stream: Stream) -> None:
    for _ in range(100_000):
        stream.write(b"x" * 99 + b"\n")


def test_a_file_goes_on_where_it_was() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"before\n")
        file.flush()
        stream = Stream(file.fileno())
        stream.write(b"line\n")
        stream.close()
        file.write(b"after\n")
        file.seek(0)
        assert file.read() == b"before\nline\nafter\n"


@pytest.mark.parametrize("form", [as_text, as_json])
@pytest.mark.parametrize("text", ["x" * 9000, "✓" * 4000, '"' * 9000, "fails\n" + "y" * 9000 + "\nValueError: end"])
def test_a_line_is_what_a_pipe_takes_as_a_whole(form: log.targets.Form, text: str) -> None:
    event = EVENT._replace(message=text)
    short = fitting(event, form, PIPE_BUF)
    assert PIPE_BUF - 300 < len(short) <= PIPE_BUF
    assert b"\xe2\x80\xa6" in short
    if "\n" in text:
        assert b"fails" in short
        assert b"ValueError: end" in short


def test_a_long_line_on_a_pipe(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log.targets, "Stream", lambda: Stream(pipe[1]))
    stderr = Stderr(as_text)
    stderr.write(EVENT._replace(message="x" * 9000))
    data = os.read(pipe[0], 1 << 20)
    assert len(data) <= PIPE_BUF
    assert data.endswith("…\n".encode())
    stderr.close()


# -- a daemon


def drained(reading: int) -> str:
    """All that is in the pipe."""
    os.set_blocking(reading, False)
    said = b""
    while True:
        try:
            data = os.read(reading, 1 << 20)
        except BlockingIOError:
            return said.decode()
        if not data:
            return said.decode()
        said += data


def test_a_daemon_whose_stderr_nobody_reads(tmp_path: Path, pipe: tuple[int, int]) -> None:
    daemon, origin = Daemon(tmp_path, stderr=pipe[1]), RawOrigin(answer)
    wait_for("its socket", lambda: Path(daemon.socket).exists())
    with daemon.client() as client:
        for reply in client.query_many([(origin.url, "R", {"verbose": 1})] * (MANY // 10), in_flight=50):
            assert reply.ok == 1
        client.set("log_level", "debug")
    with Wire(daemon.socket) as other:
        other.send(*[[2, "query", [7, {}]]] * MANY)  # a line each, of the front's
        assert other.call("ping", [])[0] is None
    said = drained(pipe[0])
    assert all(line.isprintable() and " hacd: " in line for line in said.splitlines())
    daemon.process.send_signal(signal.SIGHUP)  # of which each process says something
    with daemon.client() as client:
        assert client.query(origin.url, verbose=1).ok == 1
    lost = wait_for(
        "it to be told", lambda: re.findall(r"(\S+)\[\d+\]: (\d+) lines were lost: stderr", drained(pipe[0]))
    )
    assert {name for name, _ in lost} & {"front", "1"}
    with Wire(daemon.socket) as other:
        other.send(*[[2, "query", [7, {}]]] * MANY)
        assert other.call("ping", [])[0] is None
    assert daemon.terminate() == 0
    origin.close()
    daemon.close()


def test_garbage_of_many_callers_fills_no_log(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    for _ in range(300):
        with Wire(daemon.socket) as wire:
            wire.raw(b"\xc1")
            assert wire.receive()[2]["code"] == "bad_request"
    daemon.terminate()
    said = [line for line in daemon.log.splitlines() if "connection closed" in line]
    assert 10 <= len(said) < 250
    assert "lines like this were left out before" in daemon.log or len(said) == 10


LEFTOVERS = """
import logging
import threading
import warnings

class Falls:
    def __del__(self):
        raise ValueError("http://u:secret7Zq@h/\\nsecond line")

async def never():
    pass

def thread():
    raise KeyError("in the thread")

@route("R")
def r(tx):
    Falls()
    never()
    warnings.warn("an old name")
    logging.getLogger("theirs").warning("of a logger of theirs")
    started = threading.Thread(target=thread, name="theirs")
    started.start()
    started.join()
    return 1
"""


def test_what_python_would_print_is_in_the_log(routes: StartRoutes) -> None:
    daemon = routes(LEFTOVERS)
    with daemon.client() as client:
        assert client.run("R") == 1
    daemon.terminate()
    lines = [line for line in daemon.log.splitlines() if "WARNING hacd: front[" in line]
    wanted = [
        r"exception ignored in Falls\.__del__: \S+routes\.py:\d+: ValueError: http://\[redacted\]@h/\\nsecond line$",
        r"routes\.py:\d+: RuntimeWarning: coroutine 'never' was never awaited$",
        r"routes\.py:\d+: UserWarning: an old name$",
        r"of a logger of theirs$",
        r"thread theirs ends: \S+routes\.py:\d+: KeyError: 'in the thread'$",
    ]
    assert [sum(bool(re.search(text, line)) for line in lines) for text in wanted] == [1] * 5
    assert all(" hacd: " in line for line in daemon.log.splitlines())
