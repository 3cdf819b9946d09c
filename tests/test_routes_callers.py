"""Who enters the daemon's routes, and what becomes of them when he, or the daemon, goes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from hacd import AsyncClient, Refused
from tests.conftest import StartOrigin, StartRoutes
from tests.support.origins import Nginx, answer
from tests.support.waiting import PATIENCE, wait_for
from tests.support.wire import Wire

# -- callers


def test_wrong_runs(routes: StartRoutes) -> None:
    daemon = routes("@route('R')\ndef r(tx): tx.reply(1)\n")
    with Wire(daemon.socket) as wire:
        for params in ([], ["R", {}, 1], [1], ["R", []], ["R", {"x": [1]}], ["R", {"http_ok": 1}], ["R", {1: 1}], "R"):
            assert wire.call("run", params)[0]["code"] == "bad_request"
        error, _ = wire.call("run", ["S"])
        assert error == {
            "code": "unknown_route",
            "message": "route 'S': the daemon has no such route; there are: R",
        }


def test_a_caller_that_goes_away(routes: StartRoutes, start_origin: StartOrigin) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = routes(
        """
        @route("R")
        def r(tx):
            tx.http_async_query("ORIGIN", "BACK")

        @route("BACK")
        def back(tx):
            tx.log("back: $http_err, reply: %d" % tx.reply(1))
        """,
        silent.url,
    )
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "run", ["R"]])
        wait_for("it to be suspended", lambda: daemon.stats()["in_routes"] == 1)
    wait_for("its end", lambda: "back: cancelled: its caller went away, reply: -1" in daemon.log)
    assert daemon.wait_idle()["in_routes"] == 0


def test_a_task_that_is_cancelled(routes: StartRoutes, start_origin: StartOrigin) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = routes(
        """
        @route("R")
        async def r(tx):
            tx.log((await tx.query("ORIGIN")).err)
        """,
        silent.url,
    )

    async def main() -> None:
        async with AsyncClient(daemon.socket) as client:
            task = asyncio.ensure_future(client.run("R"))
            while not (await client.stats())["in_routes"]:
                continue
            task.cancel()
            await asyncio.wait([task])
            while (await client.stats())["in_routes"]:
                continue

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert "route R: cancelled: its caller called it off" in daemon.log


def test_runs_are_bounded(routes: StartRoutes, start_origin: StartOrigin) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = routes(
        """
        @route("R")
        async def r(tx):
            await tx.query("ORIGIN")

        @route("MANY")
        def many(tx):
            return [tx.http_async_send("ORIGIN", "R") for _ in range(4)] + [tx.pv("$http_err")]
        """,
        silent.url,
        max_client_in_flight=3,
    )
    with Wire(daemon.socket) as wire:
        for number in range(3):
            wire.send([0, number, "run", ["R"]])
        assert wire.call("run", ["R"], 4)[0]["code"] == "busy"
        wire.send([0, 2, "run", ["R"]])
        assert "msgid 2: a call of that number is in flight" in wire.receive()[2]["message"]
    with daemon.client() as client:
        assert client.run("MANY") == [1, 1, 1, -1, "max_client_in_flight (3) of this connection are in flight"]


def test_drain_lets_routes_go_on(routes: StartRoutes, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda sock, head: answer(sock, head) if origin.release.wait(20) else None)
    daemon = routes(
        """
        @route("R")
        async def r(tx):
            one = await tx.query("ORIGIN")
            two = await tx.query("ORIGIN")
            return [one.rs, two.rs]
        """,
        origin.url,
        drain_timeout=20_000,
    )
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "run", ["R"]])
        wait_for("the query", lambda: origin.heads)
        daemon.process.terminate()
        wait_for("the drain", lambda: daemon.stats()["stopping"])
        assert wire.call("run", ["R"], 2)[0]["code"] == "stopping"
        origin.release.set()
        assert wire.receive() == [1, 1, None, [200, 200]]


def test_the_end_of_the_drain_ends_them(routes: StartRoutes, start_origin: StartOrigin) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = routes(
        """
        @route("R")
        async def r(tx):
            one = await tx.query("ORIGIN")
            tx.http_async_query("ORIGIN", "R")
            return [one.err, tx.pv("$http_err")]
        """,
        silent.url,
        drain_timeout=0,
    )
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "run", ["R"]])
        wait_for("the query", lambda: silent.heads)
        daemon.process.terminate()
        stopping = "the daemon is stopping and takes no new queries"
        assert wire.receive() == [1, 1, None, ["the daemon is stopping", stopping]]


def test_command(routes: StartRoutes) -> None:
    daemon = routes(
        """
        @route("TEXT")
        def text(tx):
            return "grün $rU $$".replace("$rU", str(tx.pv("$rU")))

        @route("MAP")
        def map_(tx):
            return {"body": b"\\xff", "text": b"x", "n": 1}

        @route("NIL")
        def nil(tx):
            pass

        @route("STEERS")
        def steers(tx):
            return {"grün": "\\x9b31m\\x1b\\u202e\\U000e0001"}

        @route("RAISES")
        def raises(tx):
            raise OSError("x")
        """
    )
    daemon.tolerate.add(" ERROR ")

    def call(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "hacd", "call", "--socket", daemon.socket, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert call("TEXT", "--var", "rU=alice=bob") == (0, "grün alice=bob $$\n", "")
    assert call("TEXT", "--json") == (0, '"grün None $$"\n', "")
    assert call("MAP") == (0, '{"body": "/w==", "text": "x", "n": 1}\n', "")
    code, out, _ = call("STEERS")
    assert (code, out) == (0, r'{"grün": "\u009b31m\u001b\u202e\udb40\udc01"}' + "\n")
    assert json.loads(out) == {"grün": "\x9b31m\x1b\u202e\U000e0001"}
    assert call("NIL") == (0, "", "")
    assert call("NIL", "--json") == (0, "null\n", "")
    assert call("RAISES")[0] == 70
    code, _, said = call("NO")
    assert code == 2
    assert said.startswith("hacd: unknown_route: route 'NO': the daemon has no such route; there are: MAP, NIL, ")


EXT_TYPES = """
import msgpack


@route("REPLIES")
def replies(tx):
    tx.reply({"a": [1, {"b": (msgpack.ExtType(1, b"8 bytes."),)}]})

@route("RETURNS")
async def returns(tx):
    return {msgpack.Timestamp(1, 0): 1}

@route("XDATA")
def xdata(tx):
    said = tx.http_async_send_xdata("ORIGIN", "NOBODY", [msgpack.ExtType(1, b"8 bytes.")])
    return [said, tx.pv("$http_err")]
"""


def test_what_only_the_daemon_may_say(routes: StartRoutes, nginx: Nginx) -> None:
    """A value of an ext type would be taken for a body whose descriptor came along."""
    daemon = routes(EXT_TYPES, nginx.url)
    daemon.tolerate.add(" ERROR ")
    with daemon.client() as client:
        for route in ("REPLIES", "RETURNS"):
            with pytest.raises(Refused, match="TypeError"):
                client.run(route)
        assert client.run("XDATA") == [
            -1,
            "xdata: it cannot travel back: ExtType is no type that hacd has",
        ]
    assert daemon.log.count("the reply cannot travel") == 2
