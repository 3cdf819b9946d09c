"""Bodies in a caller's own arena: what he can do with them, and that none is kept, or given to anybody else."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest

from hacd import AsyncClient, Client, Reply, rpc
from hacd.arena import COMMON, Block
from hacd.client import borrowed
from hacd.client.borrowed import Borrowed
from hacd.front.borrowing import OFTEN, LentBlock
from hacd.outcome import Held
from hacd.pieces import MAX_PASSED
from hacd.words import LEFT, RETURNED
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import FRONTS, Daemon
from tests.support.front import Rig
from tests.support.origins import Nginx
from tests.support.waiting import wait_for
from tests.support.wire import Taker, Wire

KIB, MIB = 1024, 1024 * 1024

#: above what a file is made of, and below
SIZES = [16 * KIB, 100_000, MIB + 7]


def served(nginx: Nginx, size: int, mark: int = 0) -> tuple[str, bytes]:
    """URL and bytes of a body of that size."""
    path = nginx.files / f"lent-{size}-{mark}"
    if not path.exists():
        path.write_bytes(os.urandom(size))
    return f"{nginx.url}/file/{path.name}", path.read_bytes()


def arenas(pid: int) -> int:
    """Arenas of which that process has the descriptor."""
    return sum("memfd:hacd-arena" in os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir())


def settled(daemon: Daemon) -> None:
    daemon.wait_idle()
    wait_for("nothing to be lent", lambda: daemon.stats()["shm_used"] == 0)
    wait_for("all arenas but the common one to be given up", lambda: arenas(daemon.pid("worker 1")) == FRONTS)
    gc.collect()
    wait_for("none to be here", lambda: arenas(os.getpid()) == 0)


class Borrower(Taker):
    """One who reads bodies where they are, and returns them when he is asked to."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.arenas: dict[int, int] = {}  # descriptors, by the daemon's numbers
        self.send([2, "hello", [{"descriptors": True, "arenas": True}]])

    def receive(self) -> Any:
        message = super().receive()
        while message is not None and message[:2] == [2, "arena"]:
            number, size = message[2]
            if number in self.arenas:
                os.close(self.arenas.pop(number))
            if size:
                self.arenas[number] = self.descriptors.popleft()
            message = super().receive()
        return message

    def lent(self, url: str) -> tuple[int, int, int]:
        """Arena, place and size of the body of a query; it may take some that come otherwise before."""
        for _ in range(OFTEN + 1):
            error, reply = self.call("query", [url])
            assert error is None
            if isinstance(reply["rb"], msgpack.ExtType) and reply["rb"].code == 2:
                data = reply["rb"].data
                return (
                    int.from_bytes(data[:4], "big"),
                    int.from_bytes(data[4:12], "big"),
                    int.from_bytes(data[12:], "big"),
                )
            if isinstance(reply["rb"], msgpack.ExtType):
                os.close(self.body(reply)[0])
        raise AssertionError("nothing was lent")

    def read(self, number: int, begin: int, size: int) -> bytes:
        return os.pread(self.arenas[number], size, begin)

    def close(self) -> None:
        while self.arenas:
            os.close(self.arenas.popitem()[1])


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_daemon(workers=1)


@pytest.fixture
def borrower(daemon: Daemon) -> Iterator[Borrower]:
    with Borrower(daemon.socket) as borrower:
        yield borrower
        borrower.close()


def is_lent(reply: Reply) -> bool:
    return isinstance(reply._members["rb"], Borrowed)


# -- what a client sees


@pytest.mark.parametrize("size", SIZES)
def test_every_byte(daemon: Daemon, nginx: Nginx, size: int) -> None:
    url, body = served(nginx, size)
    with Client(daemon.socket) as client:
        replies = [client.query(url) for _ in range(OFTEN + 6)]
        assert [is_lent(reply) for reply in replies] == [False] * OFTEN + [True] * 6
        for reply in replies:
            assert reply.bs == size
            assert bytes(reply.view) == body
            assert reply.rb == body
        del replies, reply
    settled(daemon)


def test_many(daemon: Daemon, nginx: Nginx) -> None:
    kinds = [served(nginx, size, mark) for size in SIZES for mark in range(3)]
    queries = [kinds[number % len(kinds)][0] for number in range(300)]
    with Client(daemon.socket) as client:
        lent = 0
        for reply in client.query_many(queries, 16):
            lent += is_lent(reply)
            assert reply.index is not None
            assert bytes(reply.view) == kinds[reply.index % len(kinds)][1]
        assert lent > 200
        del reply
        assert client.stats()["shm_fallbacks"] == 0
    settled(daemon)


def test_a_view_outlives_all_else(daemon: Daemon, nginx: Nginx) -> None:
    """As long as there is any view of a body, nothing else comes to be there."""
    kinds = [served(nginx, MIB, mark) for mark in range(4)]
    client = Client(daemon.socket)
    for _ in range(OFTEN):
        client.query(kinds[0][0])
    kept = [(client.query(url).view[1000:-1000], body[1000:-1000]) for url, body in kinds]
    for _ in range(20):
        assert client.query(kinds[0][0]).rb == kinds[0][1]
    assert all(view == body for view, body in kept)
    client.close()
    assert all(view == body for view, body in kept)
    wait_for("the daemon to forget it", lambda: daemon.stats()["shm_used"] == 0)
    with daemon.client() as other:
        for _ in range(20):
            assert other.query(kinds[0][0]).rb == kinds[0][1]
    assert all(view == body for view, body in kept)


def test_who_keeps_all_goes_on(daemon: Daemon, nginx: Nginx) -> None:
    url, body = served(nginx, MIB)
    with Client(daemon.socket) as client, daemon.client() as other:
        kept = list(client.query_many([url] * 80, 8))
        assert other.query(url).rb == body
        assert all(reply.rb == body for reply in kept)
        assert len({is_lent(reply) for reply in kept}) == 2
        del kept
    settled(daemon)


def test_asyncio(daemon: Daemon, nginx: Nginx) -> None:
    url, body = served(nginx, MIB)

    async def ask() -> int:
        async with AsyncClient(daemon.socket) as client:
            replies = await asyncio.gather(*(client.query(url) for _ in range(OFTEN)))
            more = await asyncio.gather(*(client.query(url) for _ in range(8)))
            assert all(reply.rb == body for reply in (*replies, *more))
            lent = sum(map(is_lent, more))
            del replies, more
            async for reply in client.query_many([url] * 50, 8):
                assert reply.view == body
                lent += is_lent(reply)
            return lent

    assert asyncio.run(ask()) > 40
    settled(daemon)


def test_threads(daemon: Daemon, nginx: Nginx) -> None:
    kinds = [served(nginx, 200_000, mark) for mark in range(4)]
    wrong: list[int] = []

    def ask(client: Client, mark: int) -> None:
        url, body = kinds[mark]
        wrong.extend(mark for _ in range(50) if bytes(client.query(url).view) != body)

    with Client(daemon.socket) as client:
        threads = [threading.Thread(target=ask, args=(client, mark)) for mark in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    settled(daemon)


def test_a_body_that_cannot_be_mapped_can_be_read(
    daemon: Daemon, nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    url, body = served(nginx, MIB)
    with Client(daemon.socket) as client:
        for _ in range(OFTEN):
            client.query(url)
        reply = client.query(url)
        assert is_lent(reply)
        with monkeypatch.context() as patch:
            patch.setattr(borrowed, "_mapped", none)
            with pytest.raises(OSError, match="Cannot allocate"):
                reply.view  # noqa: B018
        assert reply.rb == body
        assert client.query(url).view == body
    settled(daemon)


def test_a_fork_goes_on_reading(daemon: Daemon, nginx: Nginx) -> None:
    """What it had before, mapped or not, is its own: here the body is returned, and another comes to be there."""
    (url, body), (other, _) = served(nginx, MIB, 1), served(nginx, MIB, 2)
    with Client(daemon.socket) as client:
        for _ in range(OFTEN):
            client.query(url)
        mapped, part, unread = client.query(url).view, client.query(url).view[5000:-5000], client.query(url)
        begin, end = os.pipe()
        child = os.fork()
        if not child:
            os.read(begin, 1)
            same = (mapped == body, part == body[5000:-5000], unread.rb == body)
            os._exit(same.count(False))
        del mapped, part, unread
        for _ in range(5):
            assert len(client.query(other).rb) == MIB
        kept = [client.query(other) for _ in range(5)]
        os.write(end, b"x")
        assert os.waitpid(child, 0)[1] == 0
        del kept
        os.close(begin)
        os.close(end)
    settled(daemon)


def test_each_of_several_forks_goes_on_reading(daemon: Daemon, nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier one had made its own is not copied again."""
    (url, body), (other, _) = served(nginx, MIB, 1), served(nginx, MIB, 2)
    copied: list[int] = []
    keep = borrowed._Map.keep

    def counted(map_: borrowed._Map, begin: int, size: int) -> None:
        copied.append(begin)
        keep(map_, begin, size)

    monkeypatch.setattr(borrowed._Map, "keep", counted)
    with Client(daemon.socket) as client:
        for _ in range(OFTEN):
            client.query(url)
        begin, end = os.pipe()
        views: list[memoryview] = []
        children = []
        for _ in range(3):
            views.append(client.query(url).view)
            children.append(os.fork())
            if not children[-1]:
                os.read(begin, 1)
                os._exit(sum(view != body for view in views))
        assert len(copied) == 3
        views.clear()
        kept = [client.query(other).view for _ in range(8)]
        os.write(end, b"xxx")
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        del kept
        os.close(begin)
        os.close(end)
    settled(daemon)


def test_a_copy_that_finds_no_place_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system takes no more mappings, perhaps: each fork would leave as much behind."""
    fd = os.memfd_create("test")
    os.ftruncate(fd, 256 * MIB)
    map_ = borrowed._Map(fd, 256 * MIB)
    os.close(fd)
    monkeypatch.setattr(borrowed, "_MOVE", 1 << 20)  # flags that there are not
    before = psutil.Process().memory_info().vms
    with pytest.raises(OSError, match="Invalid argument"):
        map_.keep(0, 128 * MIB)
    assert psutil.Process().memory_info().vms - before < 64 * MIB


def test_many_are_returned_at_once(daemon: Daemon, nginx: Nginx) -> None:
    """More than one message may have members."""
    url, body = served(nginx, 16 * KIB)
    with Client(daemon.socket) as client:
        kept = [client.query(url) for _ in range(OFTEN + 600)]
        assert sum(map(is_lent, kept)) == 600
        kept.clear()
        assert client.query(url).rb == body
        wait_for("all to be back", lambda: daemon.stats()["shm_used"] < 10 * 16 * KIB)
    settled(daemon)


# -- the wire


def test_a_block_is_used_again_once_it_is_returned(borrower: Borrower, nginx: Nginx) -> None:
    one, other = served(nginx, MIB, 1), served(nginx, MIB, 2)
    first = borrower.lent(one[0])
    second = borrower.lent(other[0])
    assert first[1] != second[1]
    assert (borrower.read(*first), borrower.read(*second)) == (one[1], other[1])
    borrower.send([2, "returned", [[first[0], first[1]]]])
    assert borrower.lent(other[0]) == first
    assert borrower.read(*first) == other[1]


def test_what_he_does_not_have_he_cannot_return(daemon: Daemon, borrower: Borrower, nginx: Nginx) -> None:
    url, body = served(nginx, MIB)
    lent = borrower.lent(url)
    used = daemon.stats()["shm_used"]
    wrong: list[Any] = [[0, 0], [lent[0] + 1, lent[1]], [lent[0], lent[1] + 1], [-1, -1], [1 << 60, 1 << 60]]
    borrower.send([2, "returned", wrong], [2, "returned", []])
    no_pairs: list[Any] = [7, "x", [1], [1, "x"], [1, 2, 3], [[], {}], None, [lent[0], 1.5]]
    for params in ([pair] for pair in no_pairs):
        borrower.send([2, "returned", params])
    assert borrower.call("ping", [])[0] is None
    assert daemon.stats()["shm_used"] == used
    assert borrower.read(*lent) == body
    with Wire(daemon.socket) as stranger:
        stranger.send([2, "returned", [[lent[0], lent[1]]]])
        assert stranger.call("ping", [])[0] is None
    assert daemon.stats()["shm_used"] == used
    borrower.send(*[[2, "returned", [[lent[0], lent[1]]]]] * 3)
    wait_for("it to be back", lambda: daemon.stats()["shm_used"] == 0)


def test_only_who_asked_for_a_body_has_its_arena(daemon: Daemon, borrower: Borrower, nginx: Nginx) -> None:
    """What was sent unsuspended may be for others, and comes as bytes or in a file."""
    mine = borrower.lent(served(nginx, MIB, 1)[0])
    with Borrower(daemon.socket) as other:
        theirs = other.lent(served(nginx, MIB, 2)[0])
        assert os.fstat(borrower.arenas[mine[0]]).st_ino != os.fstat(other.arenas[theirs[0]]).st_ino
        other.close()
    url, body = served(nginx, MIB, 3)
    error, _ = borrower.call("send", [url])
    assert error is None
    reply = borrower.receive()[2][0]
    fd, size = borrower.body(reply)
    assert os.pread(fd, size + 1, 0) == body
    os.close(fd)


def test_hello_says_how_bodies_come(borrower: Borrower, nginx: Nginx) -> None:
    url, body = served(nginx, MIB)
    borrower.lent(url)
    for options, kind in (
        ({"arenas": False}, 1),
        ({"arenas": True}, 2),
        ({"descriptors": False}, None),
        ({"descriptors": True, "arenas": True}, 2),
    ):
        error, hello = borrower.call("hello", [options])
        assert error is None
        assert hello["arenas"] is (kind == 2)
        rb = borrower.call("query", [url])[1]["rb"]
        assert (rb.code if isinstance(rb, msgpack.ExtType) else None) == kind
        if kind is None:
            assert rb == body
    error, _ = borrower.call("hello", [{"arenas": 7}])
    assert error["code"] == "bad_request"


def test_who_says_it_late_borrows_too(daemon: Daemon, nginx: Nginx) -> None:
    """After more long bodies than it takes: he said what he can do once it was of use."""
    url, body = served(nginx, MIB)
    with Borrower(daemon.socket) as borrower:
        borrower.call("hello", [{"arenas": False, "descriptors": False}])
        for _ in range(OFTEN + 1):
            assert borrower.call("query", [url])[1]["rb"] == body
        borrower.call("hello", [{"arenas": True, "descriptors": True}])
        assert borrower.read(*borrower.lent(url)) == body
        borrower.close()
    settled(daemon)


# -- who dies, who goes


def test_a_caller_vanishes(daemon: Daemon, nginx: Nginx, start_origin: StartOrigin) -> None:
    url, _ = served(nginx, MIB)
    origin = start_origin(
        lambda sock, _head: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
    )
    with Borrower(daemon.socket) as borrower:
        for _ in range(5):
            borrower.lent(url)
        borrower.send([0, 77, "query", [origin.url]])
        wait_for("half a body", lambda: origin.heads)
        assert daemon.stats()["shm_used"] == 5 * MIB
        borrower.close()
    settled(daemon)


def test_who_reads_no_arena_gets_no_more_of_them() -> None:
    """Each is a descriptor that lies at his socket, and memory that nobody else has."""
    rig = Rig()
    link, worker = rig.worker()
    (session,) = rig.front.sessions
    session.long_bodies._borrower = borrower = rig.front.borrowers.add(session.channel)
    given = 0
    while not session.channel.closed:
        assert given <= 2 * MAX_PASSED
        rig.front.borrowers.arena(link, borrower.number, MIB, os.memfd_create("hacd-arena"))
        rig.front.borrowers.arena(link, borrower.number, 0, None)
        given += 1
        rig.turn()
    assert given > MAX_PASSED
    assert not rig.front.borrowers._all
    worker.close()
    rig.close()


def test_who_reads_each_arena_gets_as_many_as_he_has_use_for() -> None:
    rig = Rig()
    link, worker = rig.worker()
    (session,) = rig.front.sessions
    borrower = rig.front.borrowers.add(session.channel)
    for _ in range(3 * MAX_PASSED):
        rig.front.borrowers.arena(link, borrower.number, MIB, os.memfd_create("hacd-arena"))
        rig.front.borrowers.arena(link, borrower.number, 0, None)
        rig.flusher.flush()
        rig.theirs.recv(4096)
    assert not session.channel.closed
    worker.close()
    rig.close()


def test_a_body_comes_after_its_caller_has_gone() -> None:
    """Nobody becomes a borrower then, whom nobody would forget."""
    rig = Rig()
    (session,) = rig.front.sessions
    released: list[int] = []
    rig.theirs.send(rpc.notification("hello", [{"descriptors": True, "arenas": True}]))
    for number in range(OFTEN):
        rig.theirs.send(rpc.request(number, "query", ["http://127.0.0.1/"]))
    rig.turn()
    transactions = list(rig.front.transactions)
    assert len(transactions) == OFTEN
    session.channel.break_off("gone")
    for number, transaction in enumerate(transactions):
        block = Block(memoryview(b"body"), COMMON, number, lambda _number, begin: released.append(begin))
        rig.front._resume(transaction, 0, Held(b"", block, b""))
    assert released == list(range(OFTEN))
    assert not rig.front.borrowers._all
    rig.close()


def test_a_worker_hears_who_left_before_his_bodies_are_free() -> None:
    """He may go on reading them: a query that is still under way must not be put there."""
    rig = Rig()
    link, worker = rig.worker()
    borrower = rig.front.borrowers.add(next(iter(rig.front.sessions)).channel)
    rig.front.borrowers.arena(link, borrower.number, MIB, os.memfd_create("arena"))
    for begin in (0, 16 * KIB):
        borrower.lend(LentBlock(link, borrower.number, begin, 1000))
    rig.front.borrowers.remove(borrower)
    rig.turn()
    words: list[Any] = []
    rpc.Decoder(MIB, None).feed(worker.recv(4096), words)
    number = borrower.number
    assert words == [[0, LEFT, number], [0, RETURNED, [number, 0, number, 16 * KIB]]]
    worker.close()
    rig.close()


def test_a_worker_is_killed(daemon: Daemon, borrower: Borrower, nginx: Nginx) -> None:
    url, body = served(nginx, MIB)
    lent = borrower.lent(url)
    victim = daemon.pid("worker 1")
    kept = os.dup(borrower.arenas[lent[0]])
    os.kill(victim, signal.SIGKILL)
    wait_for("its successor", lambda: daemon.pid("worker 1") != victim)
    after = borrower.lent(url)
    assert after[0] != lent[0]
    assert list(borrower.arenas) == [after[0]]
    assert borrower.read(*after) == body == os.pread(kept, MIB, lent[1])
    os.close(kept)
    borrower.send([2, "returned", [[after[0], after[1]], [lent[0], lent[1]]]])
    wait_for("both to be back", lambda: daemon.stats()["shm_used"] == 0)


def test_the_front_is_killed(daemon: Daemon, nginx: Nginx) -> None:
    url, body = served(nginx, MIB)
    front = daemon.pid("front")
    with Client(daemon.socket) as client:
        for _ in range(OFTEN):
            client.query(url)
        view = client.query(url).view
        os.kill(front, signal.SIGKILL)
        wait_for("another", lambda: daemon.pid("front") != front)
        for _ in range(OFTEN + 3):
            assert client.query(url).rb == body
        assert view == body
        del view
    settled(daemon)


def test_an_arena_without_use_is_given_up(daemon: Daemon, borrower: Borrower, nginx: Nginx) -> None:
    url, body = served(nginx, MIB)
    lent = borrower.lent(url)
    assert arenas(daemon.pid("worker 1")) == 2
    borrower.send([2, "returned", [[lent[0], lent[1]]]])
    wait_for("it to be given up", lambda: arenas(daemon.pid("worker 1")) == 1)
    assert borrower.call("ping", [])[0] is None
    assert not borrower.arenas
    assert borrower.read(*borrower.lent(url)) == body


def test_what_the_rules_may_refuse_at_its_end_is_lent_to_nobody(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Where hosts are judged, a redirect is at the end once more: a body that is refused then is not to be read."""
    url, body = served(nginx, MIB)
    with start_daemon(workers=1, hosts="127.0.0.1").client() as client:
        for _ in range(OFTEN):
            client.query(url)
        reply = client.query(url, follow_redirect=1)
        assert (is_lent(reply), reply.rb) == (False, body)
        assert is_lent(client.query(url))


def test_memory_manager_sys_lends_nothing(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(workers=1, memory_manager="sys")
    url, body = served(nginx, MIB)
    with daemon.client() as client:
        for _ in range(OFTEN + 2):
            reply = client.query(url)
            assert (reply.rb, is_lent(reply)) == (body, False)
    assert arenas(daemon.pid("worker 1")) == 0
