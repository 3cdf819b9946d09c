"""`hacd tail`: the last lines of all processes' logs, over the socket, and what follows."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest

from hacd import Client, ConnectionLost, Refused
from hacd.client.aio import AsyncClient
from hacd.errors import BadRequest
from hacd.front.tail import BACKLOG, KEPT, LINES, Filter, Tail, parse
from tests.conftest import StartDaemon, StartOrigin, StartRoutes
from tests.support.daemon import Daemon
from tests.support.origins import answer
from tests.support.waiting import PATIENCE, wait_for
from tests.support.wire import Wire

HACD = (sys.executable, "-m", "hacd")


def event(message: str, **members: Any) -> dict[str, Any]:
    """An event as processes pass it on."""
    known = {"time": "2026-01-31T12:00:00.123Z", "level": "info", "process": "front", "pid": 1, "id": "", "route": ""}
    return {**known, "message": message, **members}


# -- what decides


class Reader:
    """A reader with a backlog of the test's choice."""

    def __init__(self) -> None:
        self.backlog = 0
        self.read: list[bytes] = []

    def send(self, *parts: bytes) -> None:
        self.read += parts


@pytest.mark.parametrize(
    ("wanted", "matching"),
    [
        ({}, "abcd"),
        ({"id": "x-1"}, "a"),
        ({"route": "R"}, "ab"),
        ({"route": "R", "id": "x-2"}, "b"),
        ({"level": "debug"}, "abcd"),
        ({"level": "warning"}, "bd"),
        ({"level": "error"}, "d"),
        ({"lines": 2}, "cd"),
        ({"lines": 2, "route": "R"}, "ab"),
        ({"lines": 0}, ""),
        ({"id": None, "route": None, "lines": None}, "abcd"),
    ],
)
def test_filter(wanted: dict[str, Any], matching: str) -> None:
    tail = Tail()
    tail.add(event("a", id="x-1", route="R"))
    tail.add(event("b", id="x-2", route="R", level="warning"))
    tail.add(event("c", level="debug"))
    tail.add(event("d", level="error"))
    assert "".join(found["message"] for found in tail.last(parse([wanted]))) == matching


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ([{}, {}], r"params: \[{filter}\] would be right"),
        (["x"], r"params: \[{filter}\] would be right"),
        ([{"ID": "x"}], "'ID' is unknown; there are: id, route, level, lines, follow"),
        ([{"id": 1}], "id: 1 is wrong: the id of a query would be right"),
        ([{"route": ["R"]}], "route: a list is wrong"),
        ([{"level": "loud"}], "level: 'loud' is wrong: debug, info, warning or error would be right"),
        ([{"lines": KEPT + 1}], f"lines: {KEPT + 1} is wrong: an integer from 0 to {KEPT} would be right"),
        ([{"lines": True}], "lines: True is wrong"),
        ([{"follow": "yes"}], "follow: 'yes' is wrong: true or false would be right"),
    ],
)
def test_filter_that_is_wrong(params: list[Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        parse(params)


def test_so_many_are_kept() -> None:
    tail = Tail()
    for number in range(KEPT + 5):
        tail.add(event(str(number)))
    kept = tail.last(Filter(lines=KEPT))
    assert (len(kept), kept[0]["message"], kept[-1]["message"]) == (KEPT, "5", str(KEPT + 4))
    assert len(tail.last(parse([]))) == LINES


def test_the_oldest_comes_first_whatever_way_it_had() -> None:
    """What other processes say has a longer way than what the front itself does."""
    tail = Tail()
    for message, second in (("front", 2), ("supervisor", 1), ("worker", 2), ("late", 3)):
        tail.add({**event(message), "time": f"2026-01-31T12:00:0{second}.000Z"})
    assert [found["message"] for found in tail.last(Filter())] == ["supervisor", "front", "worker", "late"]


def test_who_does_not_keep_up_misses_lines_and_is_told() -> None:
    tail, reader, other = Tail(), Reader(), Reader()
    tail.follow(reader, Filter())
    tail.follow(other, Filter(route="R"))
    tail.add(event("one"))
    reader.backlog = BACKLOG
    tail.add(event("two"))
    tail.add(event("three"))
    reader.backlog = 0
    tail.add(event("four"))
    tail.leave(reader)
    tail.add(event("five"))
    read = b"".join(reader.read)
    assert re.findall(rb"one|two|three|four|five|2 lines before this one are skipped", read) == [
        *(b"one", b"2 lines before this one are skipped", b"four"),
    ]
    assert other.read == []


# -- a daemon


def messages(daemon: Daemon, **wanted: Any) -> list[str]:
    with daemon.client() as client:
        return [found["message"] for found in client.tail(**wanted)]


def test_lines_of_all_processes(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(log_level="debug", curl_verbose=1)
    with daemon.client() as client:
        assert client.query("http://nobody.invalid/").code == 6
        events = list(client.tail(lines=KEPT))
        assert len(list(client.tail())) == LINES
    assert {found["process"] for found in events} == {"supervisor", "front", "worker 1"}
    texts = [found["message"] for found in events]
    assert "hacd starts: 1 workers, socket " + daemon.socket in texts  # from before there was a front
    assert "ready" in texts
    for found in events:
        assert set(found) == {"time", "level", "process", "pid", "id", "route", "message"}
        assert f"hacd: {found['process']}[{found['pid']}]" in daemon.log
        assert found["message"] in daemon.log


def test_filters_of_a_query_and_of_a_route(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(curl_verbose=1), start_origin(answer)
    with daemon.client() as client:
        one, two = client.query(f"{origin.url}/1", "ONE"), client.query(f"{origin.url}/2", "TWO")
        for reply, route in ((one, "ONE"), (two, "TWO")):
            about = list(client.tail(id=reply.id, lines=100))
            assert about
            assert {(found["id"], found["route"], found["process"]) for found in about} == {
                (reply.id, route, "worker 1"),
            }
            assert list(client.tail(route=route, lines=100)) == about
        assert list(client.tail(id="no-1")) == []


def test_it_follows(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """The last lines come as the response, and all that follow as notifications."""
    daemon, origin = start_daemon(curl_verbose=1), start_origin(answer)
    with daemon.client() as client, Wire(daemon.socket) as wire:
        error, last = wire.call("tail", [{"follow": True, "lines": 1, "route": "R"}])
        assert (error, last) == (None, [])
        client.query(origin.url, "OTHER")
        reply = client.query(origin.url, "R")
        kind, method, [told] = wire.receive()
        assert (kind, method) == (2, "log")
        assert (told["id"], told["route"], told["process"]) == (reply.id, "R", "worker 1")
        # Another filter takes the first one's place.
        wire.send([0, 2, "tail", [{"follow": True, "lines": 0, "route": "OTHER"}]])
        while wire.receive() != [1, 2, None, []]:
            continue
        client.query(origin.url, "R")
        client.query(origin.url, "OTHER")
        assert wire.receive()[2][0]["route"] == "OTHER"


def test_it_follows_through_the_client(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(curl_verbose=1), start_origin(answer)
    with daemon.client() as client:
        first = client.query(f"{origin.url}/first", "R")
        with closing(client.tail(follow=True, route="R", lines=1)) as events:
            assert next(events)["id"] == first.id
            client.query(f"{origin.url}/other", "OTHER")
            second = client.query(f"{origin.url}/second", "R")
            told = [next(events) for _ in range(3)]
        assert {found["id"] for found in told} == {second.id}
        assert client.query(origin.url).ok == 1


ROUTES = """
from hacd.routes import route

@route("REQUEST")
def request(tx):
    tx.log("hello from $rU")
    tx.log("in trouble", "warning")
    raise KeyError("oops")
"""


def test_lines_of_the_daemons_routes(routes: StartRoutes) -> None:
    daemon = routes(ROUTES)
    daemon.tolerate.add(" ERROR ")
    with daemon.client() as client:
        with pytest.raises(Refused, match="internal"):
            client.run("REQUEST", {"rU": "alice"})
        events = list(client.tail(route="REQUEST"))
    assert [(found["level"], found["process"]) for found in events] == [
        *(("info", "front"), ("warning", "front"), ("error", "front")),
    ]
    assert events[0]["message"] == "route REQUEST: hello from alice"


def test_supervisor_is_heard_while_one_follows(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    with daemon.client() as client, closing(client.tail(follow=True)) as events:
        next(events)
        os.kill(daemon.pid("worker 1"), signal.SIGKILL)
        daemon.tolerate.add(" ERROR ")
        texts: list[str] = []
        for found in events:
            texts.append(f"{found['process']}: {found['message']}")
            if "is there" in texts[-1] and any("was killed by SIGKILL" in text for text in texts):
                break
    assert [text for text in texts if text.startswith("supervisor: worker 1 [")]


def test_wrong_filter_over_the_wire(daemon: Daemon, client: Client) -> None:
    with pytest.raises(Refused, match="tail: lines: -1 is wrong"):
        list(client.tail(lines=-1))


async def _tail(path: str) -> list[dict[str, Any]]:
    async with AsyncClient(path) as hacd:
        return await hacd.tail(lines=3)


def test_async_client(daemon: Daemon) -> None:
    import asyncio

    assert len(asyncio.run(_tail(daemon.socket))) == 3


def test_who_does_not_read_loses_lines_and_not_his_connection(
    start_daemon: StartDaemon, start_origin: StartOrigin
) -> None:
    daemon, origin = start_daemon(curl_verbose=1), start_origin(answer)
    with Wire(daemon.socket) as wire, daemon.client() as client:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        error, _ = wire.call("tail", [{"follow": True, "lines": 0}])
        assert error is None
        for _ in range(40):
            replies = list(client.query_many([(origin.url, {"hdr": ["X-Long: " + "x" * 3000]})] * 25))
            assert all(reply.ok for reply in replies)
        missed = ""
        while not missed:
            kind, method, [told] = wire.receive()
            assert (kind, method) == (2, "log")
            missed = told["message"] if "skipped" in told["message"] else ""
            if not missed and told["id"] == replies[-1].id:
                client.query(origin.url)
        assert re.fullmatch(r"\d+ lines before this one are skipped", missed)
        assert client.query(origin.url).ok == 1


def test_a_follower_who_does_not_read_holds_up_no_stop(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(curl_verbose=1, drain_timeout=60_000), start_origin(answer)
    with Wire(daemon.socket) as wire, daemon.client() as client:
        assert wire.call("tail", [{"follow": True, "lines": 0}])[0] is None
        for _ in range(20):
            list(client.query_many([(origin.url, {"hdr": ["X-Long: " + "x" * 3000]})] * 25))
        assert daemon.terminate() == 0  # long before the time to drain is over


# -- the command


def command(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HACD_", "XDG_"))}
    return subprocess.Popen(
        [*HACD, "tail", "--socket", daemon.socket, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_command_prints_lines_as_the_log_has_them(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(curl_verbose=1)
    with daemon.client() as client:
        reply = client.query("http://nobody.invalid/", "R")
    for arguments in (["-n", "5"], ["--id", reply.id], ["--route", "R", "--level", "info"]):
        out, err = command(daemon, *arguments).communicate(timeout=PATIENCE)
        lines = out.splitlines()
        assert lines
        assert err == ""
        assert all(line in daemon.log.splitlines() for line in lines)
        assert all(f" {reply.id}: [cURL] " in line for line in lines if arguments[0] != "-n")


def test_command_follows_until_ctrl_c(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(), start_origin(answer)
    following = command(daemon, "-f", "-n", "1")
    assert following.stdout is not None
    assert ": " in following.stdout.readline()
    with daemon.client() as client:
        reply = client.query(origin.url, verbose=1)
    assert f" {reply.id}: [cURL] Trying" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=PATIENCE)
    assert (following.returncode, err) == (130, "")
    assert wait_for("him to be forgotten", lambda: daemon.stats()["clients"] == 1)


@pytest.mark.parametrize("who", ["front", "daemon"])
def test_command_ends_when_the_front_does(start_daemon: StartDaemon, who: str) -> None:
    daemon = start_daemon()
    following = command(daemon, "-f", "-n", "1")
    assert following.stdout is not None
    assert following.stdout.readline()
    if who == "front":
        os.kill(daemon.pid("front"), signal.SIGKILL)
    else:
        daemon.terminate()
    _, err = following.communicate(timeout=PATIENCE)
    assert following.returncode == 69
    assert re.fullmatch(r"hacd: [^\n]*the daemon went away[^\n]*\n", err)


def test_client_is_told_when_the_front_goes(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    with daemon.client() as client, closing(client.tail(follow=True, lines=1)) as events:
        next(events)
        os.kill(daemon.pid("front"), signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            list(events)


def test_query_verbose_of_the_command(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(), start_origin(answer)
    for option in ("-v", "--verbose"):
        done = subprocess.run(
            [*HACD, "query", origin.url, option, "--socket", daemon.socket], capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"ok", b"")
    assert len([text for text in messages(daemon, lines=KEPT) if text == "[cURL hdr in] HTTP/1.1 200 OK"]) == 2


def test_async_client_does_not_follow(daemon: Daemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.socket) as client:
            with pytest.raises(TypeError, match=r"Client\.tail follows"):
                await client.tail(follow=True)
            await client.call("tail", [{"follow": True}])
            await client.set("route_warn_ms", 60)  # which is logged, and comes as a notification
            assert (await client.ping())["pid"] == daemon.pid("front")

    asyncio.run(main())
