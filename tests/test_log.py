"""The log: its forms, its targets, and what each does with foreign text, full disks and files that were moved."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hacd import Refused, log
from hacd.errors import SettingsError
from hacd.log.entry import LINE_MAX, READ_MAX, TRACE_MAX, Entry, as_json, as_text, entry
from hacd.log.relay import WAITING, Relay
from hacd.log.targets import File, Journal, Stderr, check, open_target
from hacd.settings import Hacd
from tests.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.waiting import PATIENCE, wait_for

ROOT = Path(__file__).parent.parent
EVENT = Entry(1_769_860_800.1234, "info", "worker 1", 4242, "ab12cd-1000001", "R", "text")

# -- forms


def record(text: str, *args: Any, **members: Any) -> logging.LogRecord:
    made = logging.LogRecord("hacd", logging.INFO, __file__, 1, text, args, members.pop("exc_info", None))
    made.__dict__.update(members)
    return made


def test_text_form() -> None:
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.123"
    assert re.fullmatch(stamp + r" INFO hacd: worker 1\[4242\] ab12cd-1000001: text", as_text(EVENT))
    assert re.fullmatch(stamp + r" INFO hacd: worker 1\[4242\]: text", as_text(EVENT._replace(id="")))


def test_json_form() -> None:
    assert json.loads(as_json(EVENT)) == {
        "time": "2026-01-31T12:00:00.123Z",
        "level": "info",
        "process": "worker 1",
        "pid": 4242,
        "id": "ab12cd-1000001",
        "route": "R",
        "message": "text",
    }
    assert set(json.loads(as_json(EVENT._replace(id="", route="")))) == {"time", "level", "process", "pid", "message"}


def test_an_event_travels_as_a_map() -> None:
    there = Entry.of(EVENT.as_map())
    assert there._replace(created=0) == EVENT._replace(created=0)
    assert as_text(there) == as_text(EVENT)


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[31mred\x07\x00\x7f", r"\x1b[31mred\x07\x00\x7f"),
        ("\x9b31m", r"\x9b31m"),  # what introduces a sequence, past ASCII
        ("\u202egpj", r"\u202egpj"),  # writes from right to left
        ("\u2028", r"\u2028"),
        ("\udcff", r"\udcff"),  # a byte that was no UTF-8
        ("grün ✓", "grün ✓"),
    ],
)
def test_foreign_text_steers_nothing(foreign: str, shown: str) -> None:
    made = entry(record("%s", foreign, query_id="i", route=foreign), "front", False)
    assert (made.message, made.route, made.id) == (shown, shown, "i")
    assert "\n" not in as_json(made)


def test_a_line_has_an_end() -> None:
    made = entry(record("x" * (LINE_MAX + 5)), "front", False)
    assert made.message == "x" * LINE_MAX + "… (5 characters more)"


def test_a_secret_is_hidden_before_the_line_is_cut() -> None:
    made = entry(record("%s", "x" * (LINE_MAX - 20) + " http://alice:secret@host/"), "front", False)
    assert "alice" not in made.message
    assert "alice" in entry(record("http://alice:secret@host/"), "front", True).message


def test_no_secret_shows_because_a_text_was_cut() -> None:
    """What is hidden makes room for what comes behind it, up to where the text was cut."""
    hidden = f"http://u:{'x' * (READ_MAX - 100)}@h/ "
    for width in range(120):
        made = entry(record("%s", f"{hidden} http://v:{'S' * width}secret7Zq{'S' * 9000}@h/"), "front", False)
        assert "secret7Zq" not in made.message
        assert "SS" not in made.message


def test_a_long_text_costs_no_more_than_a_shorter_one() -> None:
    begin = time.perf_counter()
    made = entry(record("%s", "<a href='http://x/'>token=1 & more\x1b</a>\n" * 400_000), "front", False)
    try:
        raise ValueError("<a href='http://x/'>token=1 & more\x1b</a>\n" * 400_000)
    except ValueError:
        entry(record("fails", exc_info=sys.exc_info()), "front", False)
    assert time.perf_counter() - begin < 1  # 3 s each, where all of it is looked at
    assert re.search(r"… \(1\d{7} characters more\)$", made.message)


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("http://alice:secret@host/\x1b[31m" + "y" * TRACE_MAX)
    except ValueError:
        made = entry(record("worker 1 fails", exc_info=sys.exc_info()), "worker 1", False)
    assert made.message.startswith("worker 1 fails\n")
    assert len(made.message) < LINE_MAX + TRACE_MAX + 100
    assert json.loads(as_json(made))["message"] == made.message
    try:
        raise ValueError("http://alice:secret@host/\x1b[31m")
    except ValueError:
        made = entry(record("fails", exc_info=sys.exc_info()), "worker 1", False)
    assert made.message.split("\n")[1] == "Traceback (most recent call last):"
    assert made.message.split("\n")[-1] == r"ValueError: http://[redacted]@host/\x1b[31m"


# -- targets


class Broken:
    """A target that takes nothing while it is broken."""

    def __init__(self) -> None:
        self.broken = False
        self.taken: list[str] = []

    def write(self, event: Entry) -> None:
        if self.broken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.taken.append(f"{event.level}: {event.message}")

    def reopen(self) -> bool:
        return False

    def close(self) -> None:
        return None


def test_a_target_that_takes_nothing_harms_nobody() -> None:
    handler, target = log.Handler(), Broken()
    handler.target, handler.target_name = target, "/var/log/hacd.log"
    passed: list[str] = []
    handler.sink = lambda event: passed.append(event.message)
    handler.emit(record("one"))
    target.broken = True
    handler.emit(record("two"))
    handler.emit(record("three"))
    target.broken = False
    handler.emit(record("four"))
    assert target.taken == ["info: one", "error: 2 lines were lost: /var/log/hacd.log did not take them", "info: four"]
    assert passed == ["one", "two", "three", "four"]


def test_what_passing_on_logs_is_not_passed_on() -> None:
    handler, target = log.Handler(), Broken()
    handler.target = target
    passed: list[str] = []

    def sink(event: Entry) -> None:
        passed.append(event.message)
        handler.emit(record("from the sink"))

    handler.sink = sink
    handler.emit(record("one"))
    assert (passed, target.taken) == (["one"], ["info: one", "info: from the sink"])


def test_a_record_that_does_not_fit_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    handler, target = log.Handler(), Broken()
    handler.target = target
    handler.emit(record("%d", "no number"))
    assert target.taken == [f"error: {__file__}:1: a line cannot be logged: TypeError"]
    assert capsys.readouterr().err == ""


def test_a_sink_that_fails_is_told_of_once_and_raises_nothing() -> None:
    handler, target = log.Handler(), Broken()
    handler.target = target

    def sink(event: Entry) -> None:
        raise RuntimeError(event.message)

    handler.sink = sink
    for text in ("one", "two"):
        handler.emit(record(text))
    said = "error: who tails the log misses lines: RuntimeError where they are passed on"
    assert target.taken == ["info: one", said, "info: two"]


def test_what_was_lost_is_told_of_the_target_that_lost_it(tmp_path: Path) -> None:
    handler, broken = log.Handler(), Broken()
    handler.target, handler.target_name, broken.broken = broken, "/dev/full", True
    handler.emit(record("lost"))
    handler.open(str(tmp_path / "a.log"))
    handler.emit(record("there"))
    assert handler.target is not None
    handler.target.close()
    said = [line.split(": ", 2)[2] for line in (tmp_path / "a.log").read_text().splitlines()]
    assert said == ["1 lines were lost: /dev/full did not take them", "there"]


def test_a_file_is_appended_to_and_only_its_group_may_read(tmp_path: Path) -> None:
    path = tmp_path / "hacd.log"
    before = os.umask(0o077)
    try:
        file = File(str(path), as_text)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    file.write(EVENT)
    file.close()
    path.chmod(0o600)
    again = File(str(path), as_text)
    again.write(EVENT)
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600  # who may read a file that is there is not hacd's to say
    assert path.read_text() == f"{as_text(EVENT)}\n" * 2


def test_a_file_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "hacd.log"
    file = File(str(path), as_text)
    file.write(EVENT)
    path.rename(tmp_path / "hacd.log.1")
    file.write(EVENT)
    file.reopen()
    file.write(EVENT)
    assert (tmp_path / "hacd.log.1").read_text() == f"{as_text(EVENT)}\n" * 2
    assert path.read_text() == f"{as_text(EVENT)}\n"
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.reopen()
    file.write(EVENT)  # to the old one
    file.close()


class Journald:
    """A datagram socket in the place of journald's."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.settimeout(PATIENCE)
        self.sock.bind(self.path)

    def receive(self) -> dict[str, str]:
        """The fields of the next event, read as journald does."""
        data = self.sock.recv(1 << 20)
        fields: dict[str, str] = {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                size = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + size], data[9 + size :]
            fields[name.decode()] = value.decode()
        return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    server = Journald(tmp_path / "journal")
    yield server
    server.sock.close()


def test_journald(journald: Journald) -> None:
    journal = Journal(journald.path)
    journal.write(EVENT)
    assert journald.receive() == {
        "MESSAGE": "text",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "hacd",
        "HACD_PROCESS": "worker 1",
        "HACD_ID": "ab12cd-1000001",
        "HACD_ROUTE": "R",
    }
    journal.write(EVENT._replace(level="error", id="", route="", message="fails\nTraceback: a=b\n  c"))
    assert journald.receive() == {
        "MESSAGE": "fails\nTraceback: a=b\n  c",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "hacd",
        "HACD_PROCESS": "worker 1",
    }
    journal.close()


def test_journald_that_does_not_read_is_not_waited_for(journald: Journald) -> None:
    journal = Journal(journald.path)

    def flood() -> None:
        for _ in range(100_000):
            journal.write(EVENT)

    with pytest.raises(BlockingIOError):
        flood()
    journal.close()


def test_journald_that_is_started_anew(journald: Journald, tmp_path: Path) -> None:
    journal = Journal(journald.path)
    journald.sock.close()
    with pytest.raises(ConnectionRefusedError):
        journal.write(EVENT)
    Path(journald.path).unlink()
    successor = Journald(Path(journald.path))
    journal.write(EVENT)
    assert successor.receive()["MESSAGE"] == "text"
    successor.sock.close()
    journal.close()


def test_a_target_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    for judge in (lambda name: open_target(name, as_text), check):
        for name in (tmp_path / "no" / "hacd.log", tmp_path / "directory"):
            with pytest.raises(SettingsError, match=rf"^hacd\.log_target: '{name}' is wrong: .* would be right$"):
                judge(str(name))
    with pytest.raises(SettingsError, match=r"hacd\.log_target: 'journald' is wrong: No such file"):
        open_target("journald", as_text, str(tmp_path / "no"))
    with pytest.raises(SettingsError, match=r"hacd\.log_target: 'journald' is wrong: .*/no is not there"):
        check("journald", str(tmp_path / "no"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory"]  # to check leaves no trace


def test_a_target_that_can_be_had(journald: Journald, tmp_path: Path) -> None:
    check("stderr")
    check("journald", journald.path)
    check(str(tmp_path / "hacd.log"))
    assert not (tmp_path / "hacd.log").exists()
    for name, kind in (("journald", Journal), ("stderr", Stderr), (str(tmp_path / "hacd.log"), File)):
        target = open_target(name, as_text, journald.path)
        assert isinstance(target, kind)
        target.close()


def test_what_is_neither_file_nor_device_is_no_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        for judge in (lambda name: open_target(name, as_text), check):
            for name, why in (("pipe", "it is a pipe"), ("socket", "it is a socket"), ("link", "")):
                with pytest.raises(SettingsError, match=rf"^hacd\.log_target: '\S+/{name}' is wrong: {why}"):
                    judge(str(tmp_path / name))
    os.close(reader)
    check("/dev/null")
    open_target("/dev/null", as_text).close()


# -- the way to the front


def test_what_the_front_does_not_take_waits_and_the_oldest_goes() -> None:
    taken: list[str] = []
    takes = False

    def send(event: dict[str, Any]) -> bool:
        if takes:
            taken.append(event["message"])
        return takes

    relay = Relay(send)
    for number in range(WAITING + 3):
        relay.take(EVENT._replace(message=str(number)))
    assert len(relay.waiting) == WAITING
    takes = True
    relay.take(EVENT._replace(message="last"))
    assert taken[:3] == ["4 lines before this one are skipped", "4", "5"]
    assert taken[-2:] == [str(WAITING + 2), "last"]
    assert not relay.waiting


# -- a daemon


def started(directory: Path, target: Path, **settings: Any) -> Daemon:
    """A daemon that logs to a file, once it is ready."""
    daemon = Daemon(directory, log_target=target, **settings)
    wait_for("the daemon to be ready", lambda: target.exists() and "ready" in target.read_text())
    daemon.children()
    return daemon


def processes(text: str) -> set[str]:
    """The names of those who logged."""
    return set(re.findall(r"hacd: (\S+(?: \d+)?)\[", text))


def test_all_processes_log_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "the.log"
    daemon = started(tmp_path, path)
    assert daemon.terminate() == 0
    text = path.read_text()
    assert processes(text) >= {"supervisor", "front"}
    assert text.rstrip().endswith("hacd ends")
    assert daemon.log == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    daemon.close()


def test_the_file_is_opened_anew_on_sigusr1(tmp_path: Path) -> None:
    path, old = tmp_path / "the.log", tmp_path / "the.log.1"
    daemon = started(tmp_path, path)
    path.rename(old)
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for(
        "all processes to have opened it anew",
        lambda: path.exists() and path.read_text().count("log re-opened") == 3,
    )
    before = old.read_text()
    assert processes(path.read_text()) == {"supervisor", "front", "worker 1"}
    daemon.terminate()
    assert old.read_text() == before
    assert "hacd ends" in path.read_text()
    daemon.close()


def test_a_file_that_cannot_be_opened_anew(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    daemon = started(tmp_path, directory / "the.log")
    moved = tmp_path / "moved"
    directory.rename(moved)
    daemon.process.send_signal(signal.SIGUSR1)
    said = "the.log cannot be opened anew: No such file or directory; the old file is kept"
    wait_for("all to have said so", lambda: (moved / "the.log").read_text().count(said) == 3)
    daemon.terminate()
    assert "hacd ends" in (moved / "the.log").read_text()
    daemon.close()


def test_signal_to_all_processes(tmp_path: Path) -> None:
    """As `systemctl kill` without --kill-whom does: the children leave it to the supervisor."""
    path = tmp_path / "the.log"
    daemon = started(tmp_path, path)
    for child in daemon.children():
        child.send_signal(signal.SIGUSR1)
    daemon.process.send_signal(signal.SIGUSR1)
    wait_for("all to have opened it anew", lambda: path.read_text().count("log re-opened") == 3)
    assert daemon.stats()["requests"] == 0
    daemon.close()


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "the.log"
    daemon = started(tmp_path, path, log_format="json", curl_verbose=1)
    with daemon.client() as client:
        reply = client.query("http://nobody.invalid/", "LOST")
    daemon.terminate()
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert {event["process"] for event in events} == {"supervisor", "front", "worker 1"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in events)
    (about, *_) = [event for event in events if event["message"].startswith("[cURL]")]
    assert (about["id"], about["level"]) == (reply.id, "info")
    daemon.close()


def test_format_and_target_change_while_it_runs(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon, path = start_daemon(), tmp_path / "the.log"
    with daemon.client() as client:
        client.set("log_format", "json")
        wait_for("a line of JSON", lambda: daemon.log.splitlines()[-1].startswith("{"))
        client.set("log_target", str(path))
        client.set("log_level", "debug")
        pids = [daemon.pid("worker 1"), daemon.pid("front"), daemon.process.pid]
        wait_for("all to log there", lambda: all(str(path) in open_files(pid) for pid in pids))
    daemon.terminate()
    assert json.loads(path.read_text().splitlines()[-1])["message"] == "hacd ends"
    assert "hacd ends" not in daemon.log


def open_files(pid: int) -> list[str]:
    return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.exists()]


def test_a_target_that_cannot_be_set(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon()
    with daemon.client() as client, pytest.raises(Refused, match=r"set: hacd\.log_target: .* is wrong"):
        client.set("log_target", str(tmp_path / "no" / "hacd.log"))
    with daemon.client() as client, pytest.raises(Refused, match=r'"stderr", "journald" or the absolute path'):
        client.set("log_target", "relative.log")


def hacd(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HACD_")}
    command = [sys.executable, "-m", "hacd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=ROOT, check=False)


def test_start_and_check_with_a_target_that_cannot_be_had(tmp_path: Path) -> None:
    config = tmp_path / "hacd.toml"
    config.write_text(f'[hacd]\nlog_target = "{tmp_path}/no/hacd.log"\n')
    for command in (["run", "--socket", str(tmp_path / "s"), "-c", str(config)], ["check", "-c", str(config)]):
        done = hacd(*command)
        assert (done.returncode, done.stdout) == (78, "")
        wrong = r"hacd\.log_target: '.*/no/hacd\.log' is wrong: [^\n]* would be right"
        assert re.fullmatch(rf"hacd: {re.escape(str(config))}: {wrong}\n", done.stderr)


def test_settings_stay_where_they_are_when_the_target_is_lost(tmp_path: Path) -> None:
    """`configure` is called again in each process: what it cannot open it leaves."""
    program = (
        "from hacd import log; from hacd.settings import Hacd\n"
        f"log.configure('front', Hacd()); log.configure('front', Hacd(log_target={str(tmp_path / 'no' / 'x')!r}))\n"
        "log.info('still there')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "the log stays where it is" in done.stderr
    assert done.stderr.endswith(": still there\n")
    assert Hacd().log_target == "stderr"


def test_logrotate_takes_the_file(tmp_path: Path) -> None:
    logrotate = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin:/sbin")
    if logrotate is None:
        pytest.skip("logrotate is not installed")
    # No user hacd need be there to judge the rest.
    config = tmp_path / "hacd.logrotate"
    config.write_text(re.sub(r"hacd hacd$", "root root", (ROOT / "conf" / "hacd.logrotate").read_text(), flags=re.M))
    config.chmod(0o644)
    command = [logrotate, "-d", "-s", str(tmp_path / "state"), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    assert "after 1 days (14 rotations)" in done.stderr
