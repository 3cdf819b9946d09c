"""The target `session`: a caller's bytes, into a front with a worker that this file plays.

Front, session, channels and loop are the daemon's own; the loop is turned by hand. The first PLAN bytes say how the
rest is cut into chunks, what the worker does meanwhile, who the caller is, and how he leaves.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from contextlib import suppress
from typing import Any

from hacd import log, rpc
from hacd.errors import BadRequest, FrameTooLarge, ProtocolError
from hacd.flusher import Flusher
from hacd.front.control import Control
from hacd.front.front import Front
from hacd.front.owner import Peer
from hacd.front.rota import InTurn
from hacd.front.sessions import Session
from hacd.front.workers import WorkerLink
from hacd.ledger import Ledger
from hacd.loop import Loop, Timer
from hacd.outcome import ABORTED, COULDNT_CONNECT, DENIED, TIMED_OUT, failure
from hacd.settings import Hacd, HttpAsyncClient, Settings, Source

PLAN = 8
MAX_FRAME = 1024
MAX_UNSENT = 64 * 1024 * 1024

#: of a plan's first byte
ADMIN, VANISHES = 1, 2

#: turns of the loop without any news, after which there will be none
QUIET = 3

CODES = (0, COULDNT_CONNECT, TIMED_OUT, ABORTED, DENIED)

#: what `set` does to files, and to other processes, is not for a fuzzer to do
_FILES = ("routes", "log_target")


class Careful(Control):
    """The front's own control, but for settings that name files."""

    def set(self, name: str, value: Any, who: str) -> bool:
        """As `Control.set`."""
        if name.rpartition(".")[2] in _FILES:
            raise BadRequest(f"set: {name} is not for a fuzzer")
        return super().set(name, value, who)


class Bench:
    """One front, one worker, one caller."""

    def __init__(self, admin: bool) -> None:
        settings = Settings(
            hacd=Hacd(log_target="/dev/null", log_level="debug"), http_async_client=HttpAsyncClient(hash_size=256)
        )
        log.configure("fuzz", settings.hacd)
        self._loop = Loop()
        self._flusher = Flusher(self._loop)
        self._stop = Timer(self._loop)
        self.front = Front(self._loop, settings, Ledger(256))
        self.front.control = Careful(Source(), self.front, lambda _settings: None)
        log.pass_to(lambda event: self.front.logged([event.as_map()]))
        self._flusher.start(self.front.turn)
        self.worker = Worker(self._join())
        self.caller, ours = socket.socketpair()
        self.caller.setblocking(False)
        channel = InTurn(self._loop, self._flusher, ours, rpc.Decoder(MAX_FRAME), MAX_UNSENT)
        channel.rota = self.front.rota
        self.session = Session(self.front, channel, Peer(1, os.geteuid() if admin else 65_534, 65_534))
        self.front.welcome(self.session)
        self.heard: list[Any] = []
        self._ears = rpc.Decoder(MAX_UNSENT, None)
        self.settle()

    def _join(self) -> socket.socket:
        theirs, ours = socket.socketpair()
        front = self.front
        self.link = WorkerLink(self._loop, self._flusher, ours, MAX_UNSENT, front.outcomes, front.statistics, shm=False)
        front.fleet.join(self.link)
        return theirs

    def settle(self) -> None:
        """Turn the loop until nothing moves any more."""
        quiet = 0
        while quiet < QUIET:
            self._stop.start(lambda _timer: self._loop.stop(), 0, 0)
            self._loop.run()
            moves = self.worker.hear() or self._hear() or self.session.channel.pending or bool(self.front.rota.waiting)
            quiet = 0 if moves else quiet + 1

    def _hear(self) -> bool:
        data = b""
        with suppress(BlockingIOError, OSError):
            data = self.caller.recv(rpc.CHUNK)
        if data:
            self._ears.feed(data, self.heard)
        return bool(data)

    def say(self, chunk: bytes) -> None:
        """The caller sends that."""
        self.caller.sendall(chunk)
        self.settle()

    def work_off(self) -> None:
        """The worker answers all that it has, and what it is given for that."""
        while self.worker.jobs:
            self.worker.answer(0, len(self.worker.jobs))
            self.settle()

    def close(self) -> None:
        """Give back what it took."""
        log.pass_to(None)
        self.session.channel.close()
        self.link.channel.close()
        self._loop.close()
        self.caller.close()
        self.worker.sock.close()


class Worker:
    """A worker as the front hears it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        self.jobs: list[list[Any]] = []
        self._ears = rpc.Decoder(MAX_UNSENT, None)
        hello = {"number": 1, "pid": 1, "authmethods": 31, "http_versions": [0, 1, 2, 3]}
        self.sock.send(rpc.pack((0, "hello", hello)))

    def hear(self) -> bool:
        """Take jobs; one that is called off is answered all the same, and late."""
        data = b""
        with suppress(BlockingIOError):
            data = self.sock.recv(rpc.CHUNK)
        messages: list[Any] = []
        self._ears.feed(data, messages)
        self.jobs += [message for message in messages if len(message) > 3]
        return bool(data)

    def answer(self, code: int, count: int) -> None:
        """End so many of the oldest jobs with that code."""
        ended, self.jobs = self.jobs[:count], self.jobs[count:]
        for id_, url, *_ in ended:
            self.sock.send(rpc.pack((id_, code, failure(max(code, 0), "an error", url, 1))))


def run(data: bytes) -> None:
    """Any bytes: one response for each call, one error where framing is lost, and nothing left when he has gone."""
    plan, stream = data[:PLAN].ljust(PLAN, b"\0"), data[PLAN:]
    bench = Bench(bool(plan[0] & ADMIN))
    try:
        chunks = _speak(bench, plan, stream)
        if not plan[0] & VANISHES:
            bench.work_off()
            _check_heard(bench.heard, _expected(chunks))
        bench.caller.close()
        bench.settle()
        bench.work_off()
        _check_left(bench)
    finally:
        bench.close()


def _speak(bench: Bench, plan: bytes, stream: bytes) -> list[bytes]:
    chunks: list[bytes] = []
    while stream:
        step = plan[1 + len(chunks) % (PLAN - 1)]
        size = step & 31 or rpc.CHUNK
        chunks.append(stream[:size])
        stream = stream[size:]
        bench.say(chunks[-1])
        bench.worker.answer(CODES[step % len(CODES)], step >> 6)
    return chunks


def _expected(chunks: list[bytes]) -> Counter[int | None]:
    """How many responses there have to be, by msgid; None: of no call."""
    decoder, messages, broken = rpc.Decoder(MAX_FRAME), [], None  # type: ignore[var-annotated]
    try:
        for chunk in chunks:
            decoder.feed(chunk, messages)
    except ProtocolError as error:
        broken = error
    counts: Counter[int | None] = Counter()
    for message in messages:
        kind = (len(message), message[0]) if type(message) is list and message else None
        if kind == (3, rpc.NOTIFICATION):
            continue
        msgid = message[1] if kind == (4, rpc.REQUEST) else None
        if type(msgid) is not int or not 0 <= msgid <= rpc.MSGID_MAX:
            counts[None] += 1
            return counts
        counts[msgid] += 1
    if broken is not None:
        counts[broken.msgid if isinstance(broken, FrameTooLarge) else None] += 1
    return counts


def _check_heard(heard: list[Any], expected: Counter[int | None]) -> None:
    answered = Counter(message[1] for message in heard if message[0] == rpc.RESPONSE)
    assert answered == expected, f"responses {answered}, and there should be {expected}"
    resumed = Counter(message[2][0]["id"] for message in heard if message[:2] == [rpc.NOTIFICATION, "resume"])
    assert all(count == 1 for count in resumed.values()), resumed


def _check_left(bench: Bench) -> None:
    front, counts = bench.front, bench.front.statistics
    assert front.transactions.live == 0, f"{front.transactions.live} in flight"
    assert counts.requests == counts.replies + counts.errors + counts.timeouts, counts.as_map()
    assert bench.session not in front.sessions
    assert not bench.session.transactions
    assert not bench.session.runs
    assert not bench.link.channel.closed, "the worker was cut off"
    assert not bench.link.transactions
    assert front.fleet.gate.waiting == 0


def _call(*messages: Any, plan: bytes = b"\x01") -> bytes:
    return plan.ljust(PLAN, b"\0") + b"".join(map(rpc.pack, messages))


_URL = "http://h/"

SEEDS = (
    _call([0, 1, "ping", []], [0, 2, "hello", [{"descriptors": True}]], [0, 3, "stats", []]),
    _call([0, 1, "query", [_URL]], [0, 2, "query", [_URL, {"suspend": 0}]], [0, 3, "cancel", [1]]),
    _call(
        [0, 1, "send", [_URL, {"route": "r"}]], [0, 2, "register", [["r"]]], [2, "send", [_URL]], plan=b"\x03\x45\x87"
    ),
    _call([0, 1, "transactions", []], [0, 2, "tail", [{"lines": 5, "follow": True}]], [0, 3, "run", ["r", {"x": 1}]]),
    _call([0, 1, "set", ["limits.max_host_connections", 1]], [0, 2, "query", [_URL]], [0, 3, "query", [_URL]]),
    _call([0, 1, "set", ["log_level", "info"]], [0, 2, "reload", []], [0, 3, "stop", []], [2, "cancel", [1]]),
    _call([0, 1, "query", [_URL, {"vars": {"x": 1}, "body": "$x", "timeout": 9}]], [1, 2], plan=b"\x00\x03\xff"),
    _call([0, 1, "query", [_URL, {"body": bytes(MAX_FRAME)}]]),
    _call([0, 1, "query", [_URL]]) + b"\xc1",
)
