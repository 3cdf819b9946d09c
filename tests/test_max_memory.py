"""`max_memory`: what callers make the front hold is one sum, and has one bound."""

from __future__ import annotations

import os
import time
import tracemalloc
from contextlib import ExitStack

import psutil
import pytest

from hacd import Refused, rpc
from hacd.account import EACH, LEAST, QUERIES, TRIFLE, Account, Entry, weigh
from hacd.rpc import CHUNK, PLAIN, SPREAD, Decoder
from tests.conftest import StartDaemon, StartOrigin, StartRoutes
from tests.support.daemon import FRONTS, Daemon
from tests.support.origins import Nginx
from tests.support.waiting import wait_for
from tests.support.wire import Wire

KIB, MIB = 1024, 1024 * 1024


# -- what decides


class Connection:
    """One that holds what it is told to."""

    def __init__(self, account: Account, uid: int = 0) -> None:
        self.account = account
        self.uid = uid
        self.entry = Entry(account)
        self.why = ""

    def holds(self, size: int) -> None:
        self.entry.note(self, size)

    def cut_off(self, why: str) -> None:
        self.why = why
        self.holds(0)


def account(limit: int) -> Account:
    made = Account()
    made.limit = limit
    return made


def test_who_holds_most_is_cut_and_no_more_than_need_be() -> None:
    sum_ = account(10 * MIB)
    small, large, middle = (Connection(sum_) for _ in range(3))
    for connection, size in ((small, MIB), (large, 5 * MIB), (middle, 4 * MIB)):
        connection.holds(size)
    sum_.relieve()
    assert (sum_.total, large.why) == (10 * MIB, "")
    small.holds(2 * MIB)
    small.entry.judge()
    assert large.why == f"holds {5 * MIB} bytes, the most of the user who holds most of max_memory ({10 * MIB})"
    assert (small.why, middle.why, sum_.total) == ("", "", 6 * MIB)


def test_many_connections_are_no_shelter() -> None:
    """Of the user who holds most, those that hold most go first; who holds more than each of them has less in all."""
    sum_ = account(20 * MIB)
    many = [Connection(sum_, uid=1000) for _ in range(20)]
    honest = Connection(sum_, uid=1001)
    honest.holds(4 * MIB)
    for connection in many:
        connection.holds(MIB)
    many[7].holds(2 * MIB)
    sum_.relieve()
    assert (honest.why, sum_.total) == ("", 20 * MIB)
    assert many[7].why
    assert sum(bool(connection.why) for connection in many) == 4


def test_what_is_small_is_not_counted() -> None:
    sum_ = account(MIB)
    connection = Connection(sum_)
    connection.holds(LEAST - 1)
    assert sum_.total == 0
    connection.holds(LEAST)
    assert sum_.total == LEAST
    connection.holds(LEAST - 1)
    assert sum_.total == 0


def test_weights() -> None:
    assert 1300 < weigh("x" * 1000, b"y" * 300) < 1500
    assert weigh("\N{PILE OF POO}" * 1000) > 4000
    assert TRIFLE <= weigh(*(["a:"] * (TRIFLE // EACH + 1))) < TRIFLE + 2 * EACH


def test_queries_leave_room_for_what_others_say() -> None:
    sum_ = account(100 * KIB)
    most = int(100 * KIB * QUERIES)
    sum_.admit(most)
    sum_.take(most)
    with pytest.raises(
        Refused, match=rf"busy: max_memory \({100 * KIB} bytes\): queries and routes hold {most}, .* 2000 more"
    ):
        sum_.admit(2000)
    sum_.relieve()  # which ends, although nobody can be cut
    sum_.take(-most)
    assert (sum_.total, sum_.queries) == (0, 0)


# -- what half a message holds


def held(data: bytes, step: int = CHUNK) -> int:
    decoder = Decoder(16 * MIB)
    for begin in range(0, len(data), step):
        decoder.feed(data[begin : begin + step], [])
    return decoder.held


def test_a_value_that_is_still_coming_is_as_long_as_it_is() -> None:
    half = rpc.request(1, "query", ["http://x/", {"body": bytes(8 * MIB)}])[: 5 * MIB]
    for step in (CHUNK, 5000):
        assert 5 * MIB < held(half, step) < 5 * MIB + 100 * SPREAD


def test_one_that_has_come_weighs_little_more() -> None:
    half = rpc.request(1, "query", ["http://x/", {"xdata": bytes(3 * MIB), "body": bytes(8 * MIB)}])[: 5 * MIB]
    assert 5 * MIB < held(half) < 5 * MIB + CHUNK * SPREAD


def test_text_weighs_less_than_what_may_be_maps() -> None:
    half = rpc.request(1, "query", ["http://x/", {"hdr": ["X: " + "x" * 5000] * 256}])[:MIB]
    assert MIB < held(half) < MIB * (PLAIN + 2)


def test_values_of_some_length_are_told_from_small_ones() -> None:
    half = rpc.request(1, "run", ["R", {f"v{number}": "x" * 60_000 for number in range(64)}])[: 3 * MIB]
    assert 3 * MIB < held(half) < 10 * MIB


def test_values_that_are_small_weigh_what_they_may_take() -> None:
    maps = b"\x81\xc0" * 900 + b"\xc0"
    half = b"\xdc\x02\x00" + b"\xdc\x02\x00" + maps * 300
    decoder = Decoder(16 * MIB)
    tracemalloc.start()
    for begin in range(0, len(half), CHUNK):
        decoder.feed(half[begin : begin + CHUNK], [])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoder.held > taken > 100 * len(half)
    decoder.close()
    assert decoder.held == 0


@pytest.mark.parametrize("follows", [b"", b"\x93\x01", rpc.request(2, "ping", [])])
def test_after_a_long_message_nothing_is_held(follows: bytes) -> None:
    """Nor does the stream lose anything where the buffer is made anew."""
    long = rpc.request(1, "query", ["http://x/", {"body": bytes(MIB)}])
    stream = long + follows
    decoder = Decoder(16 * MIB)
    messages: list[object] = []
    for begin in range(0, len(stream), CHUNK):
        decoder.feed(stream[begin : begin + CHUNK], messages)
    assert decoder.held < 1000
    assert decoder.fed == len(stream)
    rest = b"\x02\x03" if follows == b"\x93\x01" else b""
    decoder.feed(rest + rpc.request(3, "ping", []), messages)
    kinds = [message[:2] for message in messages if isinstance(message, list)]
    assert kinds == [[0, 1], *([[0, 2]] if len(follows) > 2 else []), *([[1, 2]] if rest else []), [0, 3]]
    assert decoder.fed == len(stream) + len(rest) + len(rpc.request(3, "ping", []))


# -- through the socket


def mib(daemon: Daemon) -> float:
    return float(psutil.Process(daemon.pid("front")).memory_info().rss / MIB)


def half(size: int) -> bytes:
    """That many bytes of a query."""
    return rpc.request(1, "query", ["http://127.0.0.1:1/", {"body": bytes(size)}])[:size]


def test_half_messages(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon(max_memory=32 * MIB)
    sizes: list[int] = []
    with ExitStack() as stack, daemon.client() as neighbour:
        innocent = stack.enter_context(Wire(daemon.socket))
        whole = rpc.request(7, "query", [nginx.url, {"body": bytes(MIB), "method": "GET"}])
        innocent.raw(whole[:-5])
        most = mib(daemon)
        for number in range(30):
            wire = stack.enter_context(Wire(daemon.socket))
            try:
                wire.raw(half((3 + number % 2) * MIB))
            except OSError:
                continue  # it was cut while it wrote
            sizes.append(neighbour.stats()["held_bytes"])
            most = max(most, mib(daemon))
            assert neighbour.query(nginx.url).ok == 1
        innocent.raw(whole[-5:])
        message = innocent.receive()
        assert (message[1], message[3]["ok"]) == (7, 1)
        stats = neighbour.stats()
        assert stats["cut"] >= 15
        assert 0 < stats["held_bytes"] <= 32 * MIB
    assert max(sizes) <= 32 * MIB
    assert most < 160
    who = f"caller uid {os.geteuid()} pid {os.getpid()} holds "
    assert who in daemon.log
    assert f"the most of the user who holds most of max_memory ({32 * MIB}); connection cut" in daemon.log
    wait_for("all to be let go of", lambda: daemon.stats()["held_bytes"] == 0)


def test_small_values_in_half_messages(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """A byte of theirs may take a hundred of the front's."""
    daemon = start_daemon(max_memory=64 * MIB)
    begin = b"\x94\x00\x01\xa5query\x92\xa1x\x81\xa5xdata" + (b"\xdc\x02\x00" + b"\x80" * 511) * 900
    with ExitStack() as stack, daemon.client() as neighbour:
        for _ in range(20):
            wire = stack.enter_context(Wire(daemon.socket))
            wire.raw(begin)
        wait_for("some to be cut", lambda: neighbour.stats()["cut"] >= 10)
        assert neighbour.stats()["held_bytes"] <= 64 * MIB
        assert mib(daemon) < 200
        assert neighbour.query(nginx.url).ok == 1


@pytest.mark.parametrize("manager", ["sys", "shm"])
def test_replies_that_nobody_takes(start_daemon: StartDaemon, nginx: Nginx, manager: str) -> None:
    (nginx.files / "large").write_bytes(bytes(5 * MIB))
    (nginx.files / "larger").write_bytes(bytes(6 * MIB))
    daemon = start_daemon(max_memory=32 * MIB, memory_manager=manager, shm_size=256 * MIB)
    with ExitStack() as stack, daemon.client() as neighbour:
        for number in range(12):
            wire = stack.enter_context(Wire(daemon.socket))
            wire.send([0, 1, "query", [f"{nginx.url}/file/larg{'er' if number == 3 else 'e'}"]])
            wait_for("its reply", lambda n=number: neighbour.stats()["replies"] == n + 1)  # type: ignore[misc]
        wait_for("the last to be judged", lambda: neighbour.stats()["held_bytes"] <= 32 * MIB)
        assert 5 <= neighbour.stats()["cut"] <= 8
        held, _, _ = daemon.log.partition(" bytes, the most of the user who holds most of max_memory")
        assert int(held.split()[-1]) > 5.5 * MIB  # the larger one
        assert neighbour.query(nginx.url).ok == 1
    wait_for("all to be let go of", lambda: daemon.stats()["held_bytes"] == 0)


def test_one_who_reads_slowly_gives_back_what_he_takes(start_daemon: StartDaemon, nginx: Nginx) -> None:
    (nginx.files / "large").write_bytes(bytes(4 * MIB))
    daemon = start_daemon(max_memory=64 * MIB)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [f"{nginx.url}/file/large"]], [0, 2, "query", [f"{nginx.url}/file/large"]])
        wait_for("it to be held", lambda: daemon.stats()["held_bytes"] > 7 * MIB)
        assert len(wire.receive()[3]["rb"]) == 4 * MIB
        wait_for("less", lambda: daemon.stats()["held_bytes"] < 5 * MIB)
        assert len(wire.receive()[3]["rb"]) == 4 * MIB
        wait_for("nothing", lambda: daemon.stats()["held_bytes"] == 0)


def test_queries(start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx) -> None:
    origin = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(max_memory=32 * MIB, connection_timeout=60_000)
    with Wire(daemon.socket) as wire, daemon.client() as neighbour:
        kinds = [{"body": bytes(8 * MIB)}, {"xdata": "x" * (8 * MIB)}, {"hdr": ["X: " + "x" * 40_000] * 10}]
        for msgid, options in enumerate(kinds):
            wire.send([0, msgid, "query", [origin.url, options]])
        wait_for("all of them", lambda: neighbour.stats()["in_flight"] == 3)
        assert 16 * MIB + 400_000 < neighbour.stats()["held_bytes"] < 17 * MIB
        begin = time.monotonic()
        with pytest.raises(Refused, match=rf"busy: max_memory \({32 * MIB} bytes\): queries and routes hold"):
            neighbour.query(nginx.url, body=bytes(8 * MIB))
        assert time.monotonic() - begin < 1
        stats = neighbour.stats()
        assert (stats["busy"], stats["cut"]) == (1, 0)
        assert f"caller uid {os.geteuid()} pid {os.getpid()} refused: max_memory" in daemon.log
        assert neighbour.query(nginx.url).ok == 1  # a small one
        neighbour.set("max_memory", 64 * MIB)
        assert neighbour.query(nginx.url, body=bytes(8 * MIB), method="GET").ok == 1
        wire.send(*([2, "cancel", [msgid]] for msgid in range(3)))
        assert sorted(wire.receive()[1] for _ in kinds) == [0, 1, 2]
        wait_for("all to be let go of", lambda: neighbour.stats()["held_bytes"] == 0)


ROUTES = """
@route("KEEPS")
async def keeps(tx):
    first = await tx.query("ORIGIN/file/large")
    await tx.query("ORIGIN/status/200?size=" + str(len(first.rb)))
    return len(first.rb)

@route("WAITS")
async def waits(tx):
    await tx.query("SILENT", timeout=60000)
"""


def test_what_routes_hold(routes: StartRoutes, start_origin: StartOrigin, nginx: Nginx) -> None:
    (nginx.files / "large").write_bytes(bytes(4 * MIB))
    silent = start_origin(lambda _sock, _head: None)
    daemon = routes(ROUTES.replace("SILENT", silent.url), nginx.url, max_memory=16 * MIB)
    with daemon.client() as client, Wire(daemon.socket) as wire:
        for _ in range(10):
            assert client.run("KEEPS") == 4 * MIB
        assert client.stats()["held_bytes"] == 0
        variables = {f"v{number}": "x" * 60_000 for number in range(20)}
        wire.send(*([0, number, "run", ["WAITS", variables]] for number in range(12)))
        answers = [wire.receive()[1:3] for _ in range(2)]
        assert [(msgid, error["code"]) for msgid, error in answers] == [(10, "busy"), (11, "busy")]
        assert 12_000_000 < client.stats()["held_bytes"] < 12 * MIB
        wire.send(*([2, "cancel", [number]] for number in range(10)))
        wait_for("all to be let go of", lambda: client.stats()["held_bytes"] == 0)


def test_many_who_send_at_once(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Between two looks, none gets past the bound: it is looked at after each read."""
    daemon = start_daemon(max_memory=32 * MIB, max_clients=500)
    part = half(MIB)[: 200 * KIB]
    with ExitStack() as stack, daemon.client() as neighbour:
        wires = [stack.enter_context(Wire(daemon.socket)) for _ in range(400)]
        for wire in wires:
            wire.sock.setblocking(False)
        for wire in wires:
            sent = 0
            while sent < len(part):
                try:
                    sent += wire.sock.send(part[sent:])
                except BlockingIOError:
                    break
        assert neighbour.query(nginx.url).ok == 1
        assert neighbour.stats()["held_bytes"] <= 32 * MIB
        assert mib(daemon) < 200


def test_routes_that_callers_register_for(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """Names of 1 KB each, of which 12 MB are let in. What is said is short: as half a message it would weigh more."""
    daemon = start_daemon(max_memory=16 * MIB * FRONTS)
    names = ["\N{PILE OF POO}" * 250 + str(n) for n in range(256)]
    with ExitStack() as stack:
        refused = None
        for _ in range(60 * FRONTS):
            wire = stack.enter_context(Wire(daemon.socket))
            for n in range(0, 256, 16):
                refused = refused or wire.call("register", [names[n : n + 16]])[0]
            if refused:
                break
        assert refused is not None
        assert refused["code"] == "busy"
        assert f"max_memory ({16 * MIB} bytes)" in refused["message"]
        assert 8 * MIB < daemon.stats()["held_bytes"] < 12 * MIB * FRONTS
        with Wire(daemon.socket) as other:
            assert other.call("register", [["R"]]) == (None, True)
            assert other.call("query", [nginx.url])[1]["ok"] == 1
    wait_for("all to be let go of", lambda: daemon.stats()["held_bytes"] == 0)
