"""What has ended holds no memory: no cycle is left for the collector, and no buffer stays as long as it once was."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psutil
import pytest

from hacd import Client, rpc
from hacd.errors import INTERNAL, Refused
from tests.conftest import StartDaemon, StartOrigin, StartRoutes
from tests.support.daemon import Daemon
from tests.support.front import Rig
from tests.support.waiting import wait_for
from tests.support.wire import Wire

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    logging.disable()  # pytest keeps what is logged, with the errors that it names
    yield
    logging.disable(logging.NOTSET)
    gc.enable()


@pytest.fixture
def rig() -> Iterator[Rig]:
    with closing(Rig()) as rig:
        yield rig


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        (b"", "closed by the peer"),
        (rpc.request(1, "query", ["http://x/", {"body": b"x" * 5000}]), "in flight"),
        (rpc.request(1, "query", ["http://x/", {"body": b"x" * 5000}])[:-1], "half a message"),
        (b"\xc1", "broken"),
        (rpc.request(1, "run", ["R"]), "in a route"),
    ],
)
def test_a_session_that_has_ended(rig: Rig, said: bytes, ended: str) -> None:
    async def route(tx: Any) -> None:
        await tx.query("http://x/")

    rig.front.router.replace(__file__, {"R": route})
    (session,) = rig.front.sessions
    refs: list[weakref.ref[Any]] = [
        weakref.ref(session),
        weakref.ref(session.channel),
        weakref.ref(session.channel._decoder),
    ]
    del session
    rig.theirs.send(said)
    rig.turn()
    rig.theirs.close()
    rig.turn()
    assert [ref() for ref in refs] == [None] * 3, ended


def test_a_worker_that_is_lost(rig: Rig) -> None:
    link, theirs = rig.worker()
    ref = weakref.ref(link)
    del link
    with theirs:
        theirs.send(rpc.pack((1, 2)))  # no outcome: it is cut off
        rig.turn()
    assert not rig.front.fleet.links
    assert ref() is None


async def awaits(tx: Any) -> Any:
    return (await tx.query("http://x/")).rb


async def gathers(tx: Any) -> Any:
    return [reply.rb for reply in await tx.gather(tx.gather(tx.query("http://x/")), awaits(tx))]


def suspends(tx: Any) -> Any:
    return tx.http_async_query("http://x/", "resumes")


def resumes(tx: Any) -> Any:
    tx.reply(tx.pv("$http_rb"))


async def raises(tx: Any) -> Any:
    reply = await tx.query("http://x/")
    raise ValueError(len(reply.rb))


async def raises_within(tx: Any) -> Any:
    await tx.gather(raises(tx))


ROUTES: tuple[Callable[[Any], Any], ...] = (awaits, gathers, suspends, raises, raises_within)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("way", ["replied", "ended while it waits", "its caller gone"])
def test_a_transaction_that_has_ended(rig: Rig, route: Callable[[Any], Any], way: str) -> None:
    ref = rig.run(route, resumes)
    if way == "replied":
        rig.reply()
    elif way == "its caller gone":
        rig.theirs.close()
        rig.turn()
    else:
        tx = ref()
        assert tx is not None
        tx.end(Refused(INTERNAL, "its time is over"))
        del tx
    assert not rig.front.router.live
    assert not len(rig.front.transactions)
    assert ref() is None


def test_what_a_route_keeps_can_be_read(rig: Rig) -> None:
    kept: list[Any] = []

    async def keeps(tx: Any) -> Any:
        kept.append(tx)
        return (await tx.query("http://x/")).rb

    ref = rig.run(keeps)
    rig.reply()
    tx = kept.pop()
    assert (tx.pv("$http_rb"), tx.pv("$rU"), tx.http_reply, tx.vars) == (None, None, None, {})
    tx.log("$http_rs $rU")
    assert tx.reply(1) == -1
    assert tx.http_async_query("http://x/", "keeps") == -1
    with pytest.raises(Refused, match="has ended"):
        tx.query("http://x/")
    del tx
    assert ref() is None


# -- with a daemon: its collector runs as rarely as ever


def mib(daemon: Daemon, name: str = "front") -> int:
    return int(psutil.Process(daemon.pid(name)).memory_info().rss) // MIB


def test_large_queries_on_connections_that_end(start_daemon: StartDaemon, nobody: str) -> None:
    daemon = start_daemon(workers=1)
    body = b"x" * (8 * MIB)
    half = rpc.request(1, "query", [nobody, {"body": body}])[:-1]
    for number in range(60):
        with Client(daemon.socket) as client:
            assert client.query(nobody, body=body).code == 7
        if number % 2:
            with Wire(daemon.socket) as wire:
                wire.raw(half)
    wait_for("the callers to be gone", lambda: daemon.stats()["clients"] == 1)
    wait_for("the memory to be free", lambda: mib(daemon) < 150)
    wait_for("the worker's to be", lambda: mib(daemon, "worker 1") < 150)


LARGE_REPLIES = """
@route("LENGTH")
async def length(tx):
    return len((await tx.query("ORIGIN")).rb)

@route("SUSPENDED")
def suspended(tx):
    return tx.http_async_query("ORIGIN", "RESUMED")

@route("RESUMED")
def resumed(tx):
    tx.reply(tx.pv("$http_bs"))

@route("MAKES")
def makes(tx):
    return b"x" * tx.vars["size"]
"""


def test_large_replies_to_routes(routes: StartRoutes, start_origin: StartOrigin) -> None:
    size = 5 * MIB
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    origin = start_origin(lambda sock, _head: sock.sendall(head + bytes(size)))
    daemon = routes(LARGE_REPLIES, origin.url, workers=1)
    with daemon.client() as client:
        for _ in range(50):
            assert client.run("LENGTH") == client.run("SUSPENDED") == size
    wait_for("the memory to be free", lambda: mib(daemon) < 150)


def test_the_packer_keeps_no_large_buffer(routes: StartRoutes) -> None:
    daemon = routes(LARGE_REPLIES, workers=1)
    with daemon.client() as client:
        assert len(client.run("MAKES", {"size": 200 * MIB})) == 200 * MIB
        assert client.send("http://127.0.0.1:1/", xdata=b"x" * (15 * MIB))
    wait_for("the memory to be free", lambda: mib(daemon) < 100)
