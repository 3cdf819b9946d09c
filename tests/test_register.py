"""Who gets the reply of an unsuspended query: those who registered for its route, in turn; else who sent it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest

from hacd import AsyncClient, ConnectionLost, Reply
from hacd.front.registry import Registry
from tests.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.origins import Nginx
from tests.support.stranger import needs_root, stranger
from tests.support.waiting import wait_for
from tests.support.wire import Wire


class Anyone:
    """A connection that may take everything, or nothing."""

    def __init__(self, may: bool = True) -> None:
        self.may = may

    def may_take_from(self, sender: object) -> bool:
        return self.may


def test_turns() -> None:
    registry: Registry[Anyone] = Registry()
    a, b = Anyone(), Anyone()
    registry.add(a, ["R", "S"])
    registry.add(b, ["R"])
    registry.add(b, ["R"])  # once more is no second turn
    assert [registry.choose("R", None) for _ in range(4)] == [a, b, a, b]
    assert registry.choose("S", None) is a
    assert registry.choose("T", None) is None
    assert (registry.routes(a), registry.routes(b)) == ({"R", "S"}, {"R"})
    registry.remove(a)
    registry.remove(a)
    assert [registry.choose("R", None), registry.choose("S", None)] == [b, None]


def test_who_may_not_take_is_passed_over() -> None:
    registry: Registry[Anyone] = Registry()
    no, yes = Anyone(False), Anyone()
    registry.add(no, ["R"])
    assert registry.choose("R", None) is None
    registry.add(yes, ["R"])
    assert [registry.choose("R", None) for _ in range(3)] == [yes] * 3


def test_a_short_lived_program_sends_and_a_long_lived_one_handles(daemon: Daemon, nginx: Nginx) -> None:
    with Wire(daemon.socket) as handler:
        assert handler.call("register", [["ONE", "TWO"]]) == (None, True)
        with Wire(daemon.socket) as sender:
            _, sent = sender.call("send", [nginx.url, {"route": "ONE", "xdata": 7}])
        kind, method, (reply,) = handler.receive()
        assert (kind, method, reply["id"], reply["route"], reply["xdata"]) == (2, "resume", sent["id"], "ONE", 7)


def test_takers_take_turns(daemon: Daemon, nginx: Nginx) -> None:
    with Wire(daemon.socket) as first, Wire(daemon.socket) as second, Wire(daemon.socket) as sender:
        first.call("register", [["TURNS"]])
        second.call("register", [["TURNS"]])
        for number in range(6):
            sender.call("send", [nginx.url, {"route": "TURNS", "xdata": number}], number)
        got = [[wire.receive()[2][0]["xdata"] for _ in range(3)] for wire in (first, second)]
        assert sorted(got[0] + got[1]) == list(range(6))


def test_other_routes_and_suspended_queries_go_to_who_sent_them(daemon: Daemon, nginx: Nginx) -> None:
    with Wire(daemon.socket) as handler, Wire(daemon.socket) as sender:
        handler.call("register", [["MINE"]])
        assert sender.call("query", [nginx.url, {"route": "MINE"}])[1]["route"] == "MINE"
        sender.call("send", [nginx.url, {"route": "OTHER"}], 2)
        assert sender.receive()[2][0]["route"] == "OTHER"


def test_taker_that_went_away_takes_nothing(daemon: Daemon, nginx: Nginx) -> None:
    with Wire(daemon.socket) as handler:
        handler.call("register", [["GONE"]])
    wait_for("it to be forgotten", lambda: daemon.stats()["clients"] == 1)
    with Wire(daemon.socket) as sender:
        sender.call("send", [nginx.url, {"route": "GONE"}])
        assert sender.receive()[2][0]["route"] == "GONE"


@pytest.mark.parametrize(
    "params", [[], ["R"], [[1]], [["a\n"]], [[["R"]]], [["R"], ["S"]], [[f"R{n}" for n in range(257)]]]
)
def test_wrong_registration(daemon: Daemon, params: list[Any]) -> None:
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "register", params])
        assert wire.receive()[2]["code"] == "bad_request"


def test_routes_of_a_connection_are_bounded(daemon: Daemon) -> None:
    with Wire(daemon.socket) as wire:
        assert wire.call("register", [[f"R{n}" for n in range(200)]])[1] is True
        assert wire.call("register", [[f"R{n}" for n in range(200)]], 3)[1] is True  # again adds nothing
        assert "at most 256" in wire.call("register", [[f"S{n}" for n in range(57)]], 2)[0]["message"]


@needs_root
def test_another_user_takes_nothing_that_is_not_his(start_open_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_open_daemon()
    program = "print(call('register', [['R']])[1], flush=True); print(wire.recv(100), flush=True)"
    with stranger(daemon.socket, program) as taker, Wire(daemon.socket) as sender:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "True\n"
        sender.call("send", [nginx.url, {"route": "R"}])
        assert sender.receive()[2][0]["route"] == "R"
        taker.kill()


def test_async_client_registers(daemon: Daemon, nginx: Nginx) -> None:
    async def main() -> tuple[str, str]:
        came: asyncio.Queue[Reply] = asyncio.Queue()
        async with AsyncClient(daemon.socket) as handler, AsyncClient(daemon.socket) as sender:
            handler.route("ASYNC")(came.put)
            await handler.ping()  # the registration is behind it
            sent = await sender.send(nginx.url, "ASYNC")
            return sent, (await asyncio.wait_for(came.get(), 20)).id

    sent, came = asyncio.run(main())
    assert sent == came


def test_async_client_registers_again_when_it_dials_again(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon()

    async def main() -> str:
        came: asyncio.Queue[Reply] = asyncio.Queue()
        async with AsyncClient(daemon.socket) as handler:
            handler.route("AGAIN")(came.put)
            front = daemon.pid("front")
            os.kill(front, 9)
            while True:
                with contextlib.suppress(ConnectionLost):
                    await handler.ping()
                    break
            with daemon.client() as sender:
                sender.send(nginx.url, "AGAIN")
            return (await asyncio.wait_for(came.get(), 20)).route

    assert asyncio.run(main()) == "AGAIN"
