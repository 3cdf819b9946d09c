"""The wire, as a caller of another language sees it: right calls, wrong calls, and no calls at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tests.conftest import StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import REPLY, Nginx, answer
from tests.support.waiting import wait_for
from tests.support.wire import Wire

REPLY_NAMES = [
    "id",
    "route",
    "ok",
    "code",
    "err",
    "rs",
    "rr",
    "head",
    "rb",
    "time",
    "url",
    "ip",
    "http_version",
    "xdata",
]


@pytest.fixture
def wire(daemon: Daemon) -> Iterator[Wire]:
    with Wire(daemon.socket) as wire:
        yield wire


@pytest.fixture
def neighbour(daemon: Daemon, nginx: Nginx) -> Iterator[Wire]:
    """Another caller, who must not notice what this one does."""
    with Wire(daemon.socket) as wire:
        assert wire.call("query", [nginx.url])[0] is None
        yield wire
        error, reply = wire.call("query", [nginx.url], 2)
        assert (error, reply["ok"]) == (None, 1)


def test_reply_is_the_contracts_map(wire: Wire, nginx: Nginx) -> None:
    error, reply = wire.call("query", [nginx.url, {"route": "R", "xdata": [1, b"x"]}], 77)
    assert error is None
    assert sorted(reply) == sorted(REPLY_NAMES)
    types = {name: type(value) for name, value in reply.items()}
    assert (types["id"], types["rr"], types["url"], types["ip"], types["http_version"]) == (str,) * 5
    assert (types["head"], types["rb"]) == (bytes, bytes)
    assert (types["ok"], types["code"], types["rs"], types["time"]) == (int, int, int, dict)
    assert (reply["route"], reply["xdata"], reply["err"]) == ("R", [1, b"x"], None)


def test_many_in_flight_on_one_connection(wire: Wire, nginx: Nginx) -> None:
    wire.send(*([0, msgid, "query", [nginx.url]] for msgid in range(200)))
    answers = [wire.receive() for _ in range(200)]
    assert sorted(answer[1] for answer in answers) == list(range(200))
    assert {answer[3]["rs"] for answer in answers} == {200}


def test_a_call_may_come_byte_by_byte(wire: Wire, nginx: Nginx) -> None:
    for byte in msgpack.packb([0, 3, "query", [nginx.url, {"timeout": 2000}]]):
        wire.raw(bytes([byte]))
    assert wire.receive()[1] == 3


def test_largest_msgid(wire: Wire, nginx: Nginx) -> None:
    assert wire.call("query", [nginx.url], 2**32 - 1)[1]["ok"] == 1


def test_unsuspended_query_gives_its_id_at_once_and_resumes_later(wire: Wire, start_origin: StartOrigin) -> None:
    def script(sock: Any, _head: bytes) -> None:
        origin.release.wait(10)
        sock.sendall(REPLY)

    origin = start_origin(script)
    error, result = wire.call("query", [origin.url, {"suspend": 0, "route": "LATER", "xdata": "x"}])
    assert (error, list(result)) == (None, ["id"])
    origin.release.set()
    kind, method, (reply,) = wire.receive()
    assert (kind, method, reply["id"], reply["route"], reply["xdata"]) == (2, "resume", result["id"], "LATER", "x")
    assert sorted(reply) == sorted(REPLY_NAMES)


def test_send_is_a_query_that_is_not_suspended(wire: Wire, nginx: Nginx) -> None:
    _, result = wire.call("send", [nginx.url])
    assert wire.receive()[2][0]["id"] == result["id"]


def test_send_as_a_notification(wire: Wire, nginx: Nginx) -> None:
    wire.send([2, "send", [nginx.url, {"route": "N"}]])
    assert wire.receive()[2][0]["route"] == "N"


def test_reply_without_a_taker_is_undelivered(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    before = daemon.stats()["undelivered"]
    with Wire(daemon.socket) as wire:
        wire.call("send", [origin.url, {"timeout": 100}])
    wait_for("the reply to be counted", lambda: daemon.stats()["undelivered"] == before + 1)


def test_cancel(wire: Wire, daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    wire.send([0, 5, "query", [origin.url, {"route": "R"}]])
    with Wire(daemon.socket) as other:
        rows = wait_for("the transaction", lambda: [r for r in other.call("transactions", [])[1] if r["route"] == "R"])
        assert sorted(rows[0]) == ["age_ms", "id", "route", "url", "worker"]
        assert other.call("cancel", [rows[0]["id"]]) == (None, True)
        assert other.call("cancel", [rows[0]["id"]]) == (None, False)
    _, msgid, error, reply = wire.receive()
    assert (msgid, error, reply["ok"], reply["code"], reply["err"]) == (5, None, 0, 42, "cancelled")


def test_cancel_by_msgid_is_for_ones_own(wire: Wire, daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    wire.send([0, 5, "query", [origin.url]])
    wait_for("the query to be in flight", lambda: origin.heads)
    with Wire(daemon.socket) as other:
        assert other.call("cancel", [5]) == (None, False)
    wire.send([2, "cancel", [5]])
    assert wire.receive()[3]["code"] == 42


def test_vanished_caller_has_its_queries_called_off(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url, {"timeout": 60_000}]])
        wait_for("the query to be in flight", lambda: origin.heads)
    wait_for("it to be called off", lambda: daemon.stats()["in_flight"] == 0)


def test_ping_hello_stats(wire: Wire, daemon: Daemon) -> None:
    assert wire.call("ping", [])[1]["pid"] == daemon.pid("front")
    hello = wire.call("hello", [{}])[1]
    assert "query" in hello["methods"]
    assert hello["max_frame"] == 16 * 1024 * 1024
    stats = wire.call("stats", [])[1]
    assert {"requests", "replies", "errors", "timeouts", "in_flight", "workers"} <= set(stats)
    assert [row["worker"] for row in stats["workers"]] == [1]


WRONG: list[tuple[Any, Any, str, str]] = [
    ("query", [], "bad_request", "params"),
    ("query", {}, "bad_request", "params"),
    ("query", None, "bad_request", "params"),
    ("query", [1], "bad_request", "url"),
    ("query", [b"http://x/"], "bad_request", "url"),
    ("query", ["ftp://x/"], "bad_request", "scheme 'ftp'"),
    ("query", ["file:///etc/passwd"], "bad_request", "scheme 'file'"),
    ("query", ["x"], "bad_request", "scheme"),
    ("query", ["http:///"], "bad_request", "host"),
    ("query", ["http://x/\r\nX: y"], "bad_request", "character at 9"),
    ("query", ["http://x/\x00"], "bad_request", "character at 9"),
    ("query", ["http://x/ y"], "bad_request", "character at 9"),
    ("query", ["http://x/", []], "bad_request", "options"),
    ("query", ["http://x/", {}, 1], "bad_request", "params"),
    ("query", ["http://x/", {"no_such": 1}], "bad_request", "no_such"),
    ("query", ["http://x/", {7: 1}], "bad_request", "7"),
    ("query", ["http://x/", {"timeout": "1"}], "bad_request", "timeout"),
    ("query", ["http://x/", {"timeout": 0}], "bad_request", "timeout"),
    ("query", ["http://x/", {"timeout": True}], "bad_request", "timeout"),
    ("query", ["http://x/", {"timeout": 2**64 - 1}], "bad_request", "timeout"),
    ("query", ["http://x/", {"method": "GET /"}], "bad_request", "method"),
    ("query", ["http://x/", {"method": ""}], "bad_request", "method"),
    ("query", ["http://x/", {"hdr": "X: y"}], "bad_request", "hdr"),
    ("query", ["http://x/", {"hdr": ["X: y\r\nZ: w"]}], "bad_request", "hdr"),
    ("query", ["http://x/", {"hdr": ["X y: z"]}], "bad_request", "hdr"),
    ("query", ["http://x/", {"hdr": [1]}], "bad_request", "hdr"),
    ("query", ["http://x/", {"hdr": ["Content-Length: 0"]}], "bad_request", "Content-Length"),
    ("query", ["http://x/", {"hdr": ["transfer-encoding: chunked"]}], "bad_request", "transfer-encoding"),
    ("query", ["http://x/", {"hdr": ["X: y"] * 257}], "bad_request", "257 headers are too many"),
    ("query", ["http://x/", {"body": 1}], "bad_request", "body"),
    ("query", ["http://x/", {"body": "x", "method": "HEAD"}], "bad_request", "body"),
    ("query", ["http://x/", {"route": 1}], "bad_request", "route"),
    ("query", ["http://x/", {"route": "a\nb"}], "bad_request", "route"),
    ("query", ["http://x/", {"suspend": 2}], "bad_request", "suspend"),
    ("query", ["http://x/", {"suspend": "0"}], "bad_request", "suspend"),
    ("send", [], "bad_request", "params"),
    ("cancel", [], "bad_request", "cancel"),
    ("cancel", [None], "bad_request", "cancel"),
    ("stats", [1], "bad_request", "stats"),
    ("stats", {}, "bad_request", "stats"),
    ("hello", [1], "bad_request", "hello"),
    ("no_such", [], "unknown_method", "no_such"),
    (b"query", [], "unknown_method", "query"),
    (None, [], "unknown_method", "None"),
    ([], [], "unknown_method", "a list"),
    ({}, [], "unknown_method", "a dict"),
]


@pytest.mark.parametrize(("method", "params", "code", "word"), WRONG, ids=[str(row[:2])[:60] for row in WRONG])
def test_wrong_call_is_answered_on_that_call(
    wire: Wire, nginx: Nginx, method: Any, params: Any, code: str, word: str
) -> None:
    error, result = wire.call(method, params, 9)
    assert result is None
    assert sorted(error) == ["code", "message"]
    assert error["code"] == code
    assert word in error["message"]
    assert "\n" not in error["message"]
    assert wire.call("query", [nginx.url], 10)[1]["ok"] == 1  # the connection lives


def test_text_that_is_no_utf8(wire: Wire, nginx: Nginx) -> None:
    """It is MessagePack all the same: the call is refused, the stream goes on."""
    wire.raw(b"\x94\x00\x01\xa5query\x91\xabhttp://x/\xff\xfe")
    assert wire.receive()[2]["code"] == "bad_request"
    wire.raw(b"\x94\x00\x02\xa5query\x92" + msgpack.packb(nginx.url) + b"\x81\xa5xdata\xa2\xff\xfe")
    assert wire.receive()[3]["xdata"] == b"\xff\xfe".decode("utf-8", "surrogateescape")


def nested(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


@pytest.mark.parametrize("levels", [400, 510, 511, 512, 1000, 1010])
def test_deeply_nested_xdata_comes_back_or_is_refused(daemon: Daemon, nginx: Nginx, levels: int) -> None:
    """What the decoder lets in has to be packed again: if that fails, it must fail on this call."""
    begin = b"\x94\x00\x01\xa5query\x92" + msgpack.packb(nginx.url) + b"\x81\xa5xdata"
    with Wire(daemon.socket) as wire, daemon.client() as neighbour:
        wire.raw(begin + nested(levels))
        error, reply = wire.receive()[2:]
        assert (error or reply).get("code") in (0, "bad_request")
        assert neighbour.query(nginx.url).ok == 1


def test_ext_types_are_refused(daemon: Daemon) -> None:
    with Wire(daemon.socket) as wire:
        error, _ = ended = wire_error(wire, [0, 1, "query", ["http://x/", {"xdata": msgpack.ExtType(5, b"")}]])
        assert ended == (error, None)
        assert "ext type 5" in error["message"]


def wire_error(wire: Wire, message: Any) -> tuple[dict[str, str], Any]:
    """The one error that a message gets before the connection ends, and what follows it."""
    wire.send(message)
    _, msgid, error, _ = wire.receive()
    assert msgid is None
    return error, wire.receive()


def test_very_long_url(wire: Wire, start_origin: StartOrigin) -> None:
    url = start_origin(answer).url
    reply = wire.call("query", [url + "/" + "a" * (65_536 - len(url) - 1)], 1)[1]
    assert (reply["ok"], len(reply["url"])) == (1, 65_536)
    assert wire.call("query", [url + "/" + "a" * 65_536], 2)[0]["code"] == "bad_request"
    assert wire.call("query", [url + "/" + "a" * 15_000_000], 3)[0]["code"] == "bad_request"


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://a:b/", "http://a:99999/", "http://%00/", "http://[zz]/", "http://-/"]
)
def test_url_that_libcurl_refuses_is_an_outcome(wire: Wire, nginx: Nginx, url: str) -> None:
    error, reply = wire.call("query", [url])
    assert (error, reply["ok"]) == (None, 0)
    assert reply["err"]
    assert wire.call("query", [nginx.url], 2)[1]["ok"] == 1


def test_msgid_in_use_is_refused(wire: Wire, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    wire.send([0, 5, "query", [origin.url, {"timeout": 200}]], [0, 5, "query", [origin.url]])
    first, second = wire.receive(), wire.receive()
    assert (first[1], first[2]["code"]) == (5, "bad_request")
    assert (second[1], second[3]["code"]) == (5, 28)


BROKEN = [
    b"\xc1",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x00",
    b"\x80",
    b"\x90",
    b"\x93\x00\x01\xa5query",
    msgpack.packb([1, 1, None, None]),
    msgpack.packb([3, 1, "query", []]),
    msgpack.packb([0, -1, "query", []]),
    msgpack.packb([0, 2**32, "query", []]),
    msgpack.packb([0, "1", "query", []]),
    msgpack.packb([0, None, "query", []]),
    msgpack.packb([2, "x"]),
    msgpack.packb("text"),
    b"\x91" * 5000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\x81\x90\x01",
]


@pytest.mark.parametrize("data", BROKEN, ids=[str(data[:20]) for data in BROKEN])
def test_broken_stream_gets_one_error_and_is_closed(daemon: Daemon, neighbour: Wire, data: bytes) -> None:
    with Wire(daemon.socket) as wire:
        wire.raw(data)
        kind, msgid, error, result = wire.receive()
        assert (kind, msgid, error["code"], result) == (1, None, "bad_request", None)
        assert wire.receive() is None


def test_what_came_before_the_break_is_carried_out(daemon: Daemon, nginx: Nginx) -> None:
    with Wire(daemon.socket) as wire:
        wire.raw(msgpack.packb([0, 1, "ping", []]) + b"\xc1" + msgpack.packb([0, 2, "ping", []]))
        assert wire.receive()[1] == 1
        assert wire.receive()[1] is None
        assert wire.receive() is None


def test_the_suspended_queries_of_a_broken_stream_are_called_off(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(lambda _sock, _head: None)
    with Wire(daemon.socket) as wire:
        wire.send([0, 1, "query", [origin.url]])
        wait_for("the query to be in flight", lambda: origin.heads)
        wire.raw(b"\xc1")
        assert wire.receive()[2]["code"] == "bad_request"
        _, msgid, error, reply = wire.receive()
        assert (msgid, error, reply["code"]) == (1, None, 42)  # what was accepted has an outcome
        assert wire.receive() is None
    wait_for("it to be called off", lambda: daemon.stats()["in_flight"] == 0)


def test_frame_over_max_frame(daemon: Daemon, neighbour: Wire, start_origin: StartOrigin) -> None:
    with Wire(daemon.socket) as wire:
        head = msgpack.packb([0, 1234, "query", [start_origin(answer).url, {"body": b""}]])[:-2]
        wire.raw(head + b"\xc6" + (17 * 1024 * 1024).to_bytes(4, "big"))
        for _ in range(17):
            wire.raw(bytes(1024 * 1024))  # who writes it all before he reads hears what was wrong as well
        kind, msgid, error, _ = wire.receive()
        assert (kind, msgid, error["code"]) == (1, 1234, "too_large")
        assert "16777216" in error["message"]
        assert wire.receive() is None


def test_half_a_frame_and_gone(daemon: Daemon, neighbour: Wire, nginx: Nginx) -> None:
    whole = msgpack.packb([0, 1, "query", [nginx.url]])
    for size in range(1, len(whole)):
        with Wire(daemon.socket) as wire:
            wire.raw(whole[:size])
    assert daemon.stats()["in_flight"] == 0
