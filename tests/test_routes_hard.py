"""Routes that end while others of their queries are under way, and routes that raise what they can."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from hacd import Client, Refused
from tests.conftest import StartOrigin, StartRoutes
from tests.support.daemon import Daemon
from tests.support.origins import Nginx, RawOrigin
from tests.support.waiting import wait_for
from tests.support.wire import Wire

#: its end calls off what it still waits for, while the daemon ends one after the other of those
RAISES = """
@route("R")
async def r(tx):
    queries = [tx.query("ORIGIN", timeout=20_000, method="POST") for _ in range(4)]
    for query in queries:
        if (await query).err:
            raise ValueError("no")

@route("S")
def s(tx):
    for _ in range(3):
        tx.http_async_send("ORIGIN", "T")
    tx.http_async_query("ORIGIN", "T")

@route("T")
def t(tx):
    1 / 0
"""


@pytest.fixture
def silent(start_origin: StartOrigin) -> RawOrigin:
    return start_origin(lambda _sock, _head: None)


class Running:
    """A daemon in which such routes wait, beside a stranger's query that has to outlive them."""

    def __init__(self, daemon: Daemon, silent: RawOrigin) -> None:
        self.daemon = daemon
        self.front = daemon.pid("front")
        self.stranger = Wire(daemon.socket)
        self.stranger.send([0, 1, "query", [f"{silent.url}/stranger", {"timeout": 20_000}]])
        self.caller = Wire(daemon.socket)
        self.caller.send([0, 1, "run", ["R"]], [0, 2, "run", ["S"]])
        wait_for("all of them", lambda: daemon.stats()["in_flight"] == 9)

    def check(self) -> None:
        """The front lives, only the stranger's query is left, and it still is his to cancel."""
        wait_for("the routes to end", lambda: self.daemon.stats()["in_routes"] == 0)
        wait_for("their queries to end", lambda: self.daemon.stats()["in_flight"] == 1)
        self.stranger.send([2, "cancel", [1]])
        assert self.stranger.receive()[3]["err"] == "cancelled"
        assert self.daemon.pid("front") == self.front
        self.daemon.balance()

    def close(self) -> None:
        """Hang up."""
        self.stranger.sock.close()
        self.caller.sock.close()


@pytest.fixture
def running(routes: StartRoutes, silent: RawOrigin) -> Iterator[Running]:
    daemon = routes(RAISES, silent.url, workers=2)
    daemon.tolerate.add(" ERROR ")
    running = Running(daemon, silent)
    yield running
    running.close()


def test_the_caller_hangs_up(running: Running) -> None:
    running.caller.sock.close()
    wait_for("the routes to end", lambda: running.daemon.stats()["in_routes"] == 0)
    with running.daemon.client() as client:
        for row in client.transactions():  # those that S did not suspend go on
            if row["route"] == "T":
                client.cancel(row["id"])
    running.check()


def test_the_caller_calls_it_off(running: Running) -> None:
    running.caller.send([2, "cancel", [1]], [2, "cancel", [2]])
    assert {running.caller.receive()[2]["code"] for _ in range(2)} == {"internal"}
    with running.daemon.client() as client:
        for row in client.transactions():
            if row["route"] == "T":
                client.cancel(row["id"])
    running.check()


def test_their_workers_die(running: Running) -> None:
    for number in (1, 2):
        victim = running.daemon.pid(f"worker {number}")
        os.kill(victim, signal.SIGKILL)
        wait_for("the front to miss it", lambda v=victim: v not in pids(running.daemon))  # type: ignore[misc]
    assert running.caller.receive()[2]["code"] == "internal"
    with running.daemon.client() as client:
        for row in client.transactions():  # GETs were sent again
            if row["route"] == "T":
                client.cancel(row["id"])
    assert running.caller.receive()[2]["code"] == "internal"
    wait_for("the routes to end", lambda: running.daemon.stats()["in_routes"] == 0)
    assert running.daemon.pid("front") == running.front
    running.daemon.balance()


def pids(daemon: Daemon) -> list[int]:
    return [row["pid"] for row in daemon.stats()["workers"]]


def test_the_time_to_drain_is_over(routes: StartRoutes, silent: RawOrigin) -> None:
    daemon = routes(RAISES, silent.url, drain_timeout=50)
    daemon.tolerate.add(" ERROR ")
    running = Running(daemon, silent)
    daemon.process.terminate()
    assert {running.caller.receive()[2]["code"] for _ in range(2)} == {"internal"}
    assert running.stranger.receive()[3]["err"] == "the daemon is stopping"
    running.close()
    assert daemon.process.wait(20) == 0
    assert "exit code 70" not in daemon.log


ODD = """
import asyncio

class Odd(Exception):
    def __str__(self):
        raise KeyError("odd")

RAISED = {"cancelled": asyncio.CancelledError, "ctrl-c": KeyboardInterrupt, "closed": GeneratorExit, "odd": Odd,
          "base": BaseException, "stop": StopIteration, "stop async": StopAsyncIteration, "exit": SystemExit}

@route("DEF")
def def_(tx):
    raise RAISED[tx.vars["what"]]

@route("ASYNC")
async def async_(tx):
    raise RAISED[tx.vars["what"]]

@route("LATER")
def later(tx):
    tx.http_async_query("ORIGIN", "DEF")

@route("AWAITED")
async def awaited(tx):
    await tx.query("ORIGIN")
    raise RAISED[tx.vars["what"]]
"""


def test_whatever_is_raised(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(ODD, nginx.url)
    daemon.tolerate.add(" ERROR ")
    front = daemon.pid("front")
    with daemon.client() as client:
        for what in ("cancelled", "ctrl-c", "closed", "odd", "base", "stop", "stop async", "exit"):
            for route in ("DEF", "ASYNC", "LATER", "AWAITED"):
                with pytest.raises(Refused) as refused:
                    client.run(route, {"what": what})
                assert refused.value.code == "internal", (what, route)
    assert daemon.pid("front") == front
    assert daemon.wait_idle()["in_routes"] == 0
    assert "Odd: its text raised KeyError" in daemon.log
    assert daemon.log.count("KeyboardInterrupt") >= 4


def test_what_a_route_does_at_its_end(routes: StartRoutes, silent: RawOrigin, nginx: Nginx) -> None:
    daemon = routes(
        f"""
        async def late(tx):
            await tx.query("{nginx.url}")

        @route("FINALLY")
        async def finally_(tx):
            try:
                await tx.query("ORIGIN", timeout=20_000)
            finally:
                tx.gather(late(tx))

        @route("HOLDS_ON")
        async def holds_on(tx):
            try:
                await tx.query("ORIGIN", timeout=20_000)
            except BaseException:
                tx.log("held on: %s" % tx.reply(1))
                await tx.query("ORIGIN", timeout=20_000)
            finally:
                raise SystemExit
        """,
        silent.url,
        transaction_timeout=100,
    )
    front = daemon.pid("front")
    with daemon.client() as client:
        for route in ("FINALLY", "HOLDS_ON"):
            with pytest.raises(Refused, match="no end within transaction_timeout"):
                client.run(route)
    assert daemon.pid("front") == front
    assert daemon.wait_idle()["in_routes"] == 0


def test_gathers_within_gathers(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        @route("R")
        async def r(tx):
            pending = tx.query("ORIGIN")
            for _ in range(tx.vars["deep"]):
                pending = tx.gather(pending)
            await pending
            return "done"
        """,
        nginx.url,
    )
    daemon.tolerate.add(" ERROR ")
    with daemon.client() as client:
        assert client.run("R", {"deep": 50}) == "done"
        with pytest.raises(Refused, match="internal: route R raised RecursionError"):
            client.run("R", {"deep": 5000})
        assert client.run("R", {"deep": 50}) == "done"


def test_what_belongs_to_another_transaction(routes: StartRoutes, nginx: Nginx) -> None:
    """A query that one transaction sent, and another awaits; a transaction that is used after its end."""
    daemon = routes(
        """
        kept = []

        @route("KEEPS")
        async def keeps(tx):
            kept[:] = [tx, tx.query("ORIGIN")]
            return "kept"

        @route("AWAITS")
        async def awaits(tx):
            return (await kept[1]).rs

        @route("USES")
        def uses(tx):
            old = kept[0]
            return [old.http_async_query("ORIGIN", "USES"), old.reply(5), old.pv("$http_err")]

        @route("TWICE")
        async def twice(tx):
            query = tx.query("ORIGIN")
            async def wait():
                return (await query).rs
            one = tx.gather(wait())
            try:
                await query
            except RuntimeError as error:
                return [str(error), await one]
        """,
        nginx.url,
    )
    with daemon.client() as client:
        assert client.run("KEEPS") == "kept"
        assert client.run("AWAITS") == 200
        wait_for("both to end", lambda: client.stats()["in_routes"] == 0)
        assert client.run("USES") == [-1, -1, "the transaction has ended"]
        assert client.run("TWICE") == ["this is awaited already, elsewhere", [200]]


def test_notifications_are_bounded_too(routes: StartRoutes, silent: RawOrigin) -> None:
    daemon = routes(
        """
        @route("R")
        async def r(tx):
            tx.reply("early")
            await tx.gather(*[tx.query("ORIGIN", timeout=20_000) for _ in range(3)])
        """,
        silent.url,
        max_client_in_flight=9,
    )
    daemon.tolerate.add(" ERROR ")
    with Wire(daemon.socket) as wire:
        wire.send(*([2, "run", ["R"]] for _ in range(50)))
        wait_for("the ninth", lambda: daemon.stats()["in_flight"] == 9)
        error, _ = wire.call("run", ["R"], 60)
        assert (error["code"], daemon.stats()["busy"]) == ("busy", 48)
    with Client(daemon.socket) as other:
        assert other.run("R") == "early"


def test_a_long_text_in_the_log_holds_nobody(routes: StartRoutes, nginx: Nginx) -> None:
    (nginx.files / "long").write_bytes(b"<a href='http://x/'>token=1 & more</a>\n" * 400_000)
    daemon = routes(
        """
        @route("R")
        async def r(tx):
            reply = await tx.query("ORIGIN/file/long", timeout=20_000)
            tx.log("body $http_rb")
            tx.log(reply.rb.decode())
            return reply.bs
        """,
        nginx.url,
        route_warn_ms=1000,
    )
    with daemon.client() as client:
        assert client.run("R") == 400_000 * 39
    assert "held the front" not in daemon.log
    assert "route R: body <a href='http://x/'>" in daemon.log
