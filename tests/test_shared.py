"""Descriptors on their way, one by one: many at once, too many, none left."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgpack
import pytest

from hacd import shared
from hacd.arena import FILE
from hacd.channel import RETRY, Channel
from hacd.client.bodies import Inbox
from hacd.errors import ProtocolError
from hacd.flusher import Flusher
from hacd.loop import Loop, Timer
from hacd.pieces import TURN, Pieces
from hacd.rpc import Decoder, body_ext, pack
from hacd.settings import Settings
from hacd.shared import Shared, unread
from hacd.worker.bodies import LOOK, Body, announced
from hacd.worker.memory import Memory
from hacd.worker.sockets import _may_be_watched
from tests.conftest import StartDaemon
from tests.support.waiting import PATIENCE, wait_for
from tests.support.wire import Wire

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def body(content: bytes, released: list[int] | None = None) -> Shared:
    fd = shared.create()
    os.write(fd, content)
    shared.seal(fd)
    return Shared(fd, len(content), None if released is None else released.append)


def contents(descriptors: deque[int]) -> list[bytes]:
    """Of the descriptors that came, which are closed."""
    found = []
    while descriptors:
        fd = descriptors.popleft()
        found.append(os.pread(fd, 100, 0))
        os.close(fd)
    return found


def test_release_closes_once_and_tells() -> None:
    released: list[int] = []
    one = body(b"12345", released)
    fd = one.fd
    assert one.read() == b"12345"
    one.release()
    one.release()
    assert released == [5]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_more_descriptors_than_one_message_takes(pair: Pair) -> None:
    """All arrive in their order, no later than the first of the bytes that follow them."""
    ours, theirs = pair
    pieces = Pieces()
    released: list[int] = []
    numbers = [b"%d" % number for number in range(600)]
    pieces.go_along(body(number, released) for number in numbers)
    pieces.add([b"all ", b"of them"])
    while pieces:
        pieces.write(ours)
    assert len(released) == 600
    came: deque[int] = deque()
    buffer, text = bytearray(100), b""
    while text != b"all of them":
        text += buffer[: shared.receive(theirs, buffer, came)]
    assert contents(came) == numbers


def test_bodies_between_bytes(pair: Pair) -> None:
    ours, theirs = pair
    large = os.urandom(TURN + 12345)
    released: list[int] = []
    pieces = Pieces()
    pieces.add([b"a", b"b", body(b"one", released), b"c", body(large, released), b"d"])
    got = bytearray()
    reader = threading.Thread(target=lambda: got.extend(iter_bytes(theirs)))
    reader.start()
    turns = 0
    while pieces:
        pieces.write(ours)
        turns += 1
    ours.shutdown(socket.SHUT_WR)
    reader.join(PATIENCE)
    assert bytes(got) == b"abonec" + large + b"d"
    assert (released, turns) == ([3, len(large)], 2)


def iter_bytes(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def test_what_is_behind_is_counted(pair: Pair) -> None:
    """Of the bodies, all but the first: at each step of the writing as it would be added up anew."""
    ours, theirs = pair
    ours.setblocking(False)
    pieces = Pieces()
    sizes = [300_000, 5, 100_000, 7]
    pieces.add([b"a", body(b"x" * sizes[0]), b"b", body(b"x" * sizes[1])])
    pieces.go_along([body(b"x" * sizes[2]), body(b"x" * sizes[3])])
    assert pieces.behind == sum(sizes[1:])
    seen, got = {pieces.behind}, 0
    while pieces:
        with suppress(BlockingIOError):
            pieces.write(ours)
        seen.add(pieces.behind)
        while got < sum(sizes[:2]) + 2 and (data := theirs.recv(50_000, socket.MSG_DONTWAIT) if unread(ours) else b""):
            got += len(data)
    assert got <= sum(sizes[:2]) + 2
    assert seen == {sum(sizes[1:]), sizes[1], 0}
    pieces.go_along([body(b"12"), body(b"345")])
    assert pieces.behind == 3
    pieces.release()
    assert pieces.behind == 0


def test_what_is_not_written_is_let_go_of(pair: Pair) -> None:
    released: list[int] = []
    pieces = Pieces()
    pieces.go_along([body(b"1", released)])
    pieces.add([b"a", body(b"22", released), b"b"])
    pieces.release()
    assert sorted(released) == [1, 2]
    assert not pieces


def test_no_descriptor_left(pair: Pair) -> None:
    """The kernel drops what finds no room, and nobody knows which: an error, and what came is there to be closed."""
    ours, theirs = pair
    bodies = deque(body(b"x") for _ in range(10))
    shared.send(ours, memoryview(b"data"), bodies)
    came: deque[int] = deque()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, hard))
    try:
        with pytest.raises(OSError, match="no descriptor is left for a body") as caught:
            shared.receive(theirs, bytearray(100), came)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    lost = 10 - len(came)
    assert lost > 0
    assert contents(came) == [b"x"] * (10 - lost)


class Crowded(socket.socket):
    """A socket for whose first descriptors the kernel has no room."""

    refusals = 2

    def sendmsg(self, *args: Any) -> int:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        return super().sendmsg(*args)


def test_too_many_descriptors_on_their_way(pair: Pair) -> None:
    """They wait, without a busy loop, and what is behind them too."""
    ours, theirs = Crowded(fileno=pair[0].detach()), pair[1]
    loop = Loop()
    released: list[int] = []
    turns: list[int] = []
    flusher = Flusher(loop)
    channel = Channel(loop, flusher, ours, Decoder(1000), 1000)
    stop = Timer(loop)
    flusher.start(lambda: turns.append(0))
    channel.start()
    channel.pass_on(body(b"it", released), b"he", b"re")
    channel.send(b"!")

    def done(_timer: Any) -> None:
        if not channel.pending:
            loop.stop()

    stop.start(done, RETRY / 2, RETRY / 2)
    loop.run()
    came: deque[int] = deque()
    buffer = bytearray(100)
    assert buffer[: shared.receive(theirs, buffer, came)] == b"here!"
    assert contents(came) == [b"it"]
    assert released == [2]
    assert len(turns) < 30
    channel.close()


def test_a_channel_that_ends_lets_go_of_all(pair: Pair) -> None:
    loop = Loop()
    released: list[int] = []
    channel = Channel(loop, Flusher(loop), pair[0], Decoder(1000), 1000, takes_descriptors=True)
    channel.pass_on(body(b"1", released), b"a")
    channel.splice(b"b", body(b"22", released), b"c")
    channel.close()
    assert not channel.may_pass(2000)  # an outcome may come before its transaction is called off
    channel.pass_on(body(b"333", released), b"d")
    channel.splice(b"e", body(b"4444", released), b"f")
    assert sorted(released) == [1, 2, 3, 4]


def to_file(memory: Memory, threshold: int, head: list[bytes]) -> Body:
    """A body on its way to who takes descriptors, of that many bytes or more."""
    incoming = Body(memory, 1_000_000, (1_000_001, threshold), head, pause=lambda: None)
    incoming.into = FILE
    return incoming


def test_a_body_goes_on_in_own_memory_when_the_system_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(Settings())
    incoming = to_file(memory, 4096, [])
    parts = [os.urandom(50_000) for _ in range(6)]
    for part in parts[:3]:
        assert incoming.add(part) is None
    assert memory.used > 0
    monkeypatch.setattr(os, "write", lambda _fd, _data: 1)  # as on a full system: less than was asked for
    for part in parts[3:]:
        assert incoming.add(part) is None
    assert incoming.finish() is None
    assert incoming.heap == b"".join(parts)
    assert (memory.used, memory.bodies, memory.fallbacks) == (0, 0, 1)
    monkeypatch.undo()
    incoming.drop()
    assert incoming.add(parts[0]) is None
    whole = incoming.finish()
    assert whole is not None
    assert whole.read() == parts[0]
    assert (memory.used, memory.bodies) == (50_000, 1)
    whole.release()
    memory.give_back(50_000)
    monkeypatch.setattr(shared, "create", lambda: os.open("/nonexistent", os.O_RDONLY))
    incoming.drop()
    assert incoming.add(parts[0]) is None
    assert incoming.finish() is None
    assert (memory.used, memory.bodies, memory.fallbacks) == (0, 0, 2)


def test_a_body_is_no_descriptor_to_watch() -> None:
    """libuv would end the process over it."""
    one = body(b"x")
    with socket.socket() as sock:
        assert _may_be_watched(sock.fileno())
    assert not _may_be_watched(one.fd)
    one.release()
    assert not _may_be_watched(one.fd)


def test_announcements_take_descriptors_in_their_order() -> None:
    inbox = Inbox()
    decoder = Decoder(10_000, ext_hook=inbox.hook)
    inbox.descriptors += [body(b"one").fd, body(b"two").fd]
    reply = pack({"rb": 0})[:-1]
    stream = b"\x94\x01\x01\xc0" + reply + body_ext(3) + b"\x93\x02\xa6resume\x91" + reply + body_ext(3)
    got: list[Any] = []
    for at in range(len(stream)):
        messages: list[Any] = []
        decoder.feed(stream[at : at + 1], messages)
        inbox.claim(messages)
        got += messages
    assert [got[0][3]["rb"].read(), got[1][2][0]["rb"].read()] == [b"one", b"two"]
    assert not inbox.descriptors
    messages = []
    decoder.feed(b"\x94\x01\x01\xc0" + reply + body_ext(3), messages)
    with pytest.raises(ProtocolError, match="a descriptor was announced and did not come"):
        inbox.claim(messages)


@pytest.mark.parametrize("ext", [b"\xd7\x03" + bytes(8), b"\xd6\x01" + bytes(4), b"\xd7\x02" + bytes(8)])
def test_other_ext_types_are_refused(ext: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"none of hacd's|has no place"):
        Decoder(1000, ext_hook=Inbox().hook).feed(ext, [])


@pytest.mark.parametrize("size", [3, 4])
def test_a_worker_without_its_descriptor(start_daemon: StartDaemon, size: int) -> None:
    """What may be another reply's body goes to nobody: the worker is cut off."""
    daemon = start_daemon()
    with Wire(daemon.socket + ".workers") as worker:
        worker.send([0, "hello", {"number": 9, "pid": 1, "authmethods": 31, "http_versions": [0, 1, 2, 3]}])
        wait_for("it to be there", lambda: any(row["worker"] == 9 for row in daemon.stats()["workers"]))
        packed = msgpack.packb([1 << 60, 0, b"", b"", size])
        if size == 3:
            worker.raw(packed)
        else:
            one = body(b"other")
            socket.send_fds(worker.sock, [packed], [one.fd])
            one.release()
        assert worker.receive()[1] == "config"
        assert worker.receive() is None
    assert "sent an outcome with" in daemon.log


@pytest.mark.parametrize(
    ("head", "length"),
    [
        ([b"HTTP/1.1 200 OK\r\n", b"Content-Length: 70000\r\n", b"\r\n"], 70_000),
        ([b"HTTP/2 200\r\n", b"content-length:70000\r\n", b"\r\n"], 70_000),
        ([b"HTTP/1.1 302 Found\r\n", b"Content-Length: 9\r\n", b"\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n"], 0),
        ([b"HTTP/1.1 200 OK\r\n", b"Content-Length: -1\r\n", b"\r\n"], 0),
        ([b"HTTP/1.1 200 OK\r\n", b"Content-Length: " + b"9" * 5000 + b"\r\n", b"\r\n"], 0),
        ([], 0),
    ],
)
def test_announced(head: list[bytes], length: int) -> None:
    assert announced(head) == length


def test_body_that_is_announced_as_long_is_there_from_the_first_look() -> None:
    memory = Memory(Settings())
    head = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 100000\r\n", b"\r\n"]
    incoming = to_file(memory, 100_000, head)
    incoming.add(bytes(LOOK))
    assert memory.used == LOOK
    incoming.add(b"the end: it was a lie")
    body = incoming.finish()
    assert body is not None
    assert body.read() == bytes(LOOK) + b"the end: it was a lie"
    body.release()


def test_body_that_is_announced_as_longer_than_any_may_be() -> None:
    """With `memory_manager` = sys the threshold is beyond `max_body`, and no announcement is."""
    memory = Memory(Settings())
    head = [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2000000\r\n", b"\r\n"]
    incoming = to_file(memory, 1_000_001, head)
    incoming.add(bytes(2 * LOOK))
    assert (memory.used, len(incoming.heap)) == (0, 2 * LOOK)
    assert incoming.finish() is None


def test_body_that_is_not_is_in_own_memory_until_it_is() -> None:
    memory = Memory(Settings())
    incoming = to_file(memory, 3 * LOOK, [])
    incoming.add(bytes(LOOK))
    incoming.add(bytes(LOOK))
    assert (memory.used, len(incoming.heap)) == (0, 2 * LOOK)
    incoming.add(bytes(LOOK))
    assert memory.used == 3 * LOOK
    incoming.drop()
