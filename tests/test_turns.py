"""What one transfer may take of a worker's turn: floods end early, and whoever sends much waits for the others."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pycurl
import pytest

from hacd import Client
from hacd.arena import COMMON, FILE
from hacd.settings import Settings
from hacd.worker.bodies import Body
from hacd.worker.memory import Memory
from hacd.worker.turns import AT_ONCE, BODY_SHARE, HEAD_SHARE, LINES, Turns, gather
from tests.conftest import StartDaemon, StartOrigin
from tests.support.origins import Nginx, RawOrigin
from tests.support.waiting import wait_for
from tests.support.wire import Wire

MIB = 1024 * 1024
LINE = b"X: y\r\n"

#: more than libcurl reads at one time
READ = 16 * 1024


class Count:
    """How often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def taken(take: Callable[[bytes], int | None], line: bytes, most: int) -> int:
    """How many lines were taken before the transfer was ended; `most` if it was not."""
    return next((number for number in range(1, most + 1) if take(line) is not None), most)


# -- header lines


@pytest.mark.parametrize("before", [0, 1, 7, LINES - 1, LINES, LINES + 1, 5 * LINES])
def test_flood_of_lines_ends(before: int) -> None:
    """Whatever the transfer before it on this handle had, and also after one that was ended itself."""
    head: list[bytes] = []
    take = gather(head, 1000, Count())
    for _ in range(3):
        assert taken(take, b"", before) == before  # no bytes: never too many
        assert len(head) == before
        head.clear()
        assert 1000 < taken(take, LINE, 1000) * len(LINE) <= 1000 + 2 * LINES * len(LINE)
        head.clear()


def test_heads_that_fit_are_taken_for_ever() -> None:
    head: list[bytes] = []
    pause = Count()
    take = gather(head, 1000, pause)
    fits = 1000 // len(LINE)
    for _ in range(100):
        assert taken(take, LINE, fits) == fits
        assert head == [LINE] * fits
        head.clear()
    assert pause.calls == 0


def test_head_has_its_share() -> None:
    head: list[bytes] = []
    pause = Count()
    take = gather(head, MIB, pause)
    size = 100 * HEAD_SHARE
    for _ in range(size // len(LINE)):
        take(LINE)
    assert 90 <= pause.calls <= 100


# -- bodies


def body(pause: Callable[[], None], max_body: int = 16 * MIB) -> Iterator[Body]:
    """One in an arena, one in a file, and one that is in neither."""
    for length, into in ((4096, COMMON), (4096, FILE), (max_body + 1, COMMON)):
        memory = Memory(Settings())
        memory.renew()
        incoming = Body(memory, max_body, (length, length), [], pause)
        incoming.into = into
        yield incoming
        memory.reset()


@pytest.mark.parametrize(("piece", "size", "calls"), [(READ, 2 * MIB, 8), (1000, 2 * MIB, 8), (1, MIB // 8, 34)])
def test_body_has_its_share(piece: int, size: int, calls: int) -> None:
    """Small pieces count for more than they hold: an origin may send chunks of one byte."""
    pause = Count()
    for incoming in body(pause):
        pause.calls = 0
        for _ in range(size // piece):
            assert incoming.add(bytes(piece)) is None
        assert abs(pause.calls - calls) <= calls // 8 + 1
        incoming.drop()
        pause.calls = 0
        incoming.add(bytes(BODY_SHARE - 100))
        assert pause.calls == 0
        incoming.drop()


@pytest.mark.parametrize("piece", [1, 3, 4000, READ])
def test_max_body_is_exact(piece: int) -> None:
    for most in (1, 100, 5000, 300_000):
        for incoming in body(Count(), most):
            size = 0
            while size + piece <= most:
                assert incoming.add(bytes(piece)) is None
                size += piece
            assert not incoming.over
            assert incoming.add(bytes(most - size)) is None
            assert (incoming.add(b"x"), incoming.over) == (0, True)
            incoming.drop()


# -- libcurl


def test_who_had_his_share_waits(start_origin: StartOrigin) -> None:
    """Of three who send without end, one goes on in each turn, each in his turn, and no more than a read beyond."""
    origin = start_origin(flood)
    multi, turns = pycurl.CurlMulti(), Turns()
    came = {transfer(multi, turns, origin): [0] for _ in range(3)}
    for curl, count in came.items():
        curl.setopt(pycurl.WRITEFUNCTION, shares(turns, curl, count))
    wait_for("all to have had a share", lambda: multi.perform() and len(turns.waiting) == 3)
    for curl in list(turns.waiting) * 3:
        before = {each: count[0] for each, count in came.items()}
        assert next(iter(turns.waiting)) is curl
        turns.go_on()
        wait_for("all to wait again", lambda: multi.perform() and len(turns.waiting) == 3)
        more = {each: count[0] - before[each] for each, count in came.items() if count[0] > before[each]}
        assert list(more) == [curl]
        assert BODY_SHARE <= more[curl] <= BODY_SHARE + READ
    for curl in came:
        multi.remove_handle(curl)
        turns.forget(curl)
        curl.close()
    multi.close()
    assert not turns.waiting
    assert AT_ONCE == 1


def test_who_is_slow_waits_after_each_of_his_turns(start_origin: StartOrigin) -> None:
    """No callback of his is called: he is found by what lies unread at his connection."""
    origin, quiet = start_origin(endless_extension), start_origin(lambda _sock, _head: None)
    multi, turns = pycurl.CurlMulti(), Turns()
    slow = [transfer(multi, turns, origin) for _ in range(3)]
    idle = transfer(multi, turns, quiet)

    def all_slow() -> bool:
        multi.perform()
        turns.slow_down([*slow, idle])
        return len(turns.waiting) == 3

    wait_for("all to wait", all_slow)
    assert set(turns.waiting) == set(slow)
    for curl in list(turns.waiting) * 3:
        turns.go_on()
        assert turns.going == [curl]
        assert curl not in turns.waiting
        multi.perform()
    turns.go_on()
    assert len(turns.waiting) == 2
    turns.forget(turns.going[0])  # in his turn
    turns.go_on()
    assert len(turns.waiting) == 1
    for curl in (*slow, idle):
        multi.remove_handle(curl)
        turns.forget(curl)
        curl.close()
    multi.close()
    assert not turns.has_any


def endless_extension(sock: socket.socket, _head: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    while True:
        sock.sendall(b"x" * 65536)


def flood(sock: socket.socket, _head: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        sock.sendall(bytes(MIB))


def transfer(multi: pycurl.CurlMulti, turns: Turns, origin: RawOrigin) -> pycurl.Curl:
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, origin.url)
    multi.add_handle(curl)
    assert curl not in turns.waiting
    return curl


def shares(turns: Turns, curl: pycurl.Curl, count: list[int]) -> Callable[[bytes], None]:
    """A write callback that counts, and ends the turn after each share."""
    of_turn = 0

    def add(data: bytes) -> None:
        nonlocal of_turn
        count[0] += len(data)
        of_turn += len(data)
        if of_turn >= BODY_SHARE:
            of_turn = 0
            turns.end(curl)

    return add


# -- a daemon


def test_flood_of_headers_ends_at_once(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """And not when the query's time is over: its origin says no more, and does not end its head."""

    def script(sock: socket.socket, head: bytes) -> None:
        lines = 50 if b"/fits" in head else 500
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + LINE * lines)
        if lines == 50:
            sock.sendall(b"\r\n")

    origin = start_origin(script)
    with start_daemon(max_header=1000).client() as client:
        for _ in range(3):
            begin = time.monotonic()
            reply = client.query(f"{origin.url}/", timeout=20_000)
            assert time.monotonic() - begin < 10
            assert (reply.ok, reply.code, reply.head, reply.rb) == (0, 100, b"", b"")
            assert reply.err == "header longer than max_header (1000 bytes)"
            assert client.query(f"{origin.url}/fits").ok == 1


def test_extensions_without_end_hold_nobody_up(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    """libcurl reads on for all of them with each event of any: a turn would take a minute, and the worker be killed."""
    origin = start_origin(endless_extension)
    daemon = start_daemon(workers=1, worker_timeout=3000)
    worker = daemon.pid("worker 1")
    with Wire(daemon.socket) as wire, daemon.client() as neighbour:
        wire.send(*([0, number, "query", [origin.url, {"timeout": 60_000}]] for number in range(150)))
        wait_for("the flood", lambda: len(origin.heads) == 150)
        for _ in range(10):
            reply = neighbour.query(nginx.url, timeout=20_000)
            assert (reply.ok, reply.rs) == (1, 200)
    assert daemon.pid("worker 1") == worker
    assert "has not answered" not in daemon.log


@pytest.mark.parametrize("memory_manager", ["shm", "sys"])
def test_bodies_that_wait_come_whole(start_daemon: StartDaemon, start_origin: StartOrigin, memory_manager: str) -> None:
    """Their connections are readable while nobody reads, and what lies there may look like a reply."""
    text = b"HTTP/1.1 200 OK\r\n" * (3 * MIB // 17)

    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text))
        sock.sendall(text)

    origin = start_origin(script)
    daemon = start_daemon(memory_manager=memory_manager, workers=1)
    with daemon.client() as client:
        for _ in range(2):
            assert all_same(client, origin.url, text)
    assert "nobody asked for" not in daemon.log
    assert origin.accepted <= 16  # and are used again


def all_same(client: Client, url: str, text: bytes) -> bool:
    return all(reply.rb == text for reply in client.query_many([(url, {"timeout": 30_000})] * 16, in_flight=16))
