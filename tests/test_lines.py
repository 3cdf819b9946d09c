"""The supervisor's lines to children that do not listen: nothing is lost, nobody waits, and little is kept."""

from __future__ import annotations

import os
import selectors
import signal
import socket
from functools import partial

import pytest

from hacd import words
from hacd.supervisor.children import Child
from hacd.supervisor.lines import Lines
from tests.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.waiting import wait_for

#: more than a line holds
MANY = 2000


class Ear:
    """A child's end of its line, and a supervisor's lines with that one."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.lines = Lines(self.selector)
        self.child = Child("worker 1", 1)
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.setblocking(False)
        self.lines.open(self.child, ours)

    def heard(self) -> list[bytes]:
        """All that was said; the lines are flushed as the supervisor does."""
        found: list[bytes] = []
        while True:
            try:
                found.append(self.sock.recv(words.DATAGRAM))
            except BlockingIOError:
                if not self.writable():
                    return found
                self.lines.flush(self.child)

    def writable(self) -> bool:
        return any(events & selectors.EVENT_WRITE for _, events in self.selector.select(0))

    def close(self) -> None:
        self.lines.close(self.child)
        self.sock.close()
        self.selector.close()


@pytest.fixture
def ear() -> Ear:
    return Ear()


def test_what_a_full_line_is_told_is_heard_later(ear: Ear) -> None:
    for number in range(MANY):
        ear.lines.say(ear.child, words.STATES + b"%d" % number)
    ear.lines.say(ear.child, words.CONFIG + b"1")
    ear.lines.say(ear.child, words.DRAIN + words.ALL)
    ear.lines.say(ear.child, words.CONFIG + b"2")
    heard = ear.heard()
    assert heard[-3:] == [words.STATES + b"%d" % (MANY - 1), words.DRAIN + words.ALL, words.CONFIG + b"2"]
    numbers = [int(said[1:]) for said in heard[:-2]]
    assert numbers == sorted(numbers)
    assert len(numbers) < MANY  # of what waited, the newest alone
    ear.lines.say(ear.child, words.REOPEN)
    assert ear.heard() == [words.REOPEN]
    assert not ear.writable()  # it is not woken for nothing
    ear.close()


def test_the_log_stays_behind_what_waits(ear: Ear) -> None:
    while ear.lines.offer(ear.child, words.LOG):
        pass
    ear.lines.say(ear.child, words.END)
    ear.sock.recv(words.DATAGRAM)
    assert not ear.lines.offer(ear.child, words.LOG)
    assert ear.heard()[-1] == words.END
    assert ear.lines.offer(ear.child, words.LOG)
    ear.close()


def test_who_has_gone_needs_to_hear_nothing(ear: Ear) -> None:
    while ear.lines.offer(ear.child, words.LOG):
        pass
    ear.lines.say(ear.child, words.RELOAD)
    ear.sock.close()
    ear.lines.flush(ear.child)
    assert not ear.writable()
    assert ear.lines.hear(ear.child, 1) == b""
    ear.close()
    ear.lines.say(ear.child, words.END)
    assert not ear.lines.offer(ear.child, words.LOG)


def reloads(daemon: Daemon, number: int) -> bool:
    """Whether it was asked for that many."""
    return daemon.log.count("SIGHUP: reload") >= number


def test_a_front_that_hung_long_is_told_to_stop(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(front_timeout=600_000, fronts=1, workers=1)
    front = daemon.pid("front")
    os.kill(front, signal.SIGSTOP)
    try:
        for number in range(1, 601):
            daemon.process.send_signal(signal.SIGHUP)
            wait_for("the reload", partial(reloads, daemon, number))
        daemon.process.send_signal(signal.SIGTERM)
        wait_for("the stop", lambda: "INFO hacd: supervisor" in daemon.log and "SIGTERM" in daemon.log)
    finally:
        os.kill(front, signal.SIGCONT)
    assert daemon.process.wait(30) == 0
    assert "killed" not in daemon.log
