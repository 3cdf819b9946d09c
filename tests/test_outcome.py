"""An outcome is spliced from packed fragments; spliced, it must be the contract's reply."""

from __future__ import annotations

import socket
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacd import outcome, rpc
from hacd.outcome import TIMES, Times, appendix, begin, compose, failure
from hacd.worker.transfer import status
from tests.conftest import StartDaemon, StartOrigin
from tests.support.origins import answer

#: the same examples each time, however slow the machine is
PROPERTY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

UINT64_MAX = 2**64 - 1
NIL = rpc.pack(None)
NO_TIMES: Times = (0, 0, 0, 0, 0, 0, 0, 0)

#: as the contract has it
MEMBERS = {"id", "route", "ok", "code", "err", "rs", "rr", "head", "rb", "time", "url", "ip", "http_version", "xdata"}
TIME_NAMES = ["total", "lookup", "connect", "appconnect", "pretransfer", "starttransfer", "redirect", "queue"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
uint64 = st.integers(0, UINT64_MAX)


def opened(*fragments: bytes) -> dict[str, Any]:
    """The reply that the fragments make, which is one value with nothing after it."""
    members = msgpack.unpackb(b"".join(fragments))
    assert isinstance(members, dict)
    return members


def test_reply_has_the_contracts_members() -> None:
    packed = compose(
        begin(0, None, 200, "OK", "1.1"), b"HTTP/1.1 200 OK\r\n\r\n", b"\x00", NO_TIMES, b"http://x/", b"::1"
    )
    assert opened(packed, appendix("a-1", "HTTP_REPLY", rpc.pack({"k": [1]}))) == {
        "ok": 1,
        "code": 0,
        "err": None,
        "rs": 200,
        "rr": "OK",
        "http_version": "1.1",
        "head": b"HTTP/1.1 200 OK\r\n\r\n",
        "rb": b"\x00",
        "time": dict.fromkeys(TIME_NAMES, 0),
        "url": "http://x/",
        "ip": "::1",
        "id": "a-1",
        "route": "HTTP_REPLY",
        "xdata": {"k": [1]},
    }


def test_names_are_the_contracts() -> None:
    assert {*outcome.MEMBERS, *outcome.APPENDED} == MEMBERS
    assert list(TIMES) == TIME_NAMES


def test_failure() -> None:
    reply = opened(failure(28, "Timeout was reached", "http://x/", 300_000), appendix("a-1", "R", NIL))
    assert set(reply) == MEMBERS
    assert {
        name: reply[name] for name in ("ok", "code", "err", "rs", "rr", "head", "rb", "url", "ip", "http_version")
    } == {
        "ok": 0,
        "code": 28,
        "err": "Timeout was reached",
        "rs": 0,
        "rr": "",
        "head": b"",
        "rb": b"",
        "url": "http://x/",
        "ip": "",
        "http_version": "",
    }
    assert reply["time"] == {**dict.fromkeys(TIME_NAMES, 0), "total": 300_000}


def test_error_with_a_status_keeps_it() -> None:
    """A reply that broke off had a head."""
    packed = compose(begin(18, "transfer closed", 200, "OK", "1.1"), b"head", b"half", NO_TIMES, b"http://x/", b"")
    reply = opened(packed, appendix("a-1", "", NIL))
    assert (reply["ok"], reply["code"], reply["rs"], reply["rb"]) == (0, 18, 200, b"half")


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65535, 65536, 1_000_000])
def test_sizes(size: int) -> None:
    packed = compose(begin(0, None, 200, "", "1.1"), b"h" * size, b"b" * size, NO_TIMES, b"u" * size, b"")
    reply = opened(packed, appendix("", "", rpc.pack("x" * size)))
    assert [len(reply[name]) for name in ("head", "rb", "url", "xdata")] == [size] * 4


def test_huge_times() -> None:
    reply = opened(failure(28, "", "", UINT64_MAX), appendix("", "", NIL))
    assert reply["time"]["total"] == UINT64_MAX


@given(
    st.tuples(
        st.integers(0, 120), st.none() | texts, st.integers(0, 999), texts, st.sampled_from(["", "1.0", "1.1", "2"])
    ),
    st.tuples(st.binary(max_size=70_000), st.binary(max_size=70_000)),
    st.tuples(uint64, uint64, uint64, uint64, uint64, uint64, uint64, uint64),
    st.tuples(texts, texts),
    st.tuples(texts, texts, st.none() | st.integers(-9, 9) | texts | st.lists(st.binary(), max_size=20)),
)
@PROPERTY
def test_any_outcome(
    known: tuple[int, str | None, int, str, str],
    data: tuple[bytes, bytes],
    times: Times,
    place: tuple[str, str],
    appended: tuple[str, str, Any],
) -> None:
    packed = compose(begin(*known), *data, times, place[0].encode(), place[1].encode())
    reply = opened(packed, appendix(*appended[:2], rpc.pack(appended[2])))
    code, err, rs, rr, version = known
    assert (reply["ok"], reply["code"], reply["err"], reply["rs"]) == (int(code == 0), code, err, rs)
    assert (reply["rr"], reply["http_version"], reply["head"], reply["rb"]) == (rr, version, *data)
    assert reply["time"] == dict(zip(TIME_NAMES, times, strict=True))
    assert (reply["url"], reply["ip"]) == place
    assert (reply["id"], reply["route"], reply["xdata"]) == appended
    assert set(reply) == MEMBERS


@given(st.binary(max_size=50))
@PROPERTY
def test_text_that_is_no_utf8_travels(raw: bytes) -> None:
    """libcurl's text, and a caller's route, may hold any byte."""
    text = raw.decode("utf-8", "surrogateescape")
    messages: list[Any] = []
    decoder = rpc.Decoder(rpc.CHUNK)
    decoder.feed(failure(6, text, text, 0) + appendix("a-1", text, rpc.pack(text)), messages)
    [reply] = messages
    assert [reply[name] for name in ("err", "url", "route", "xdata")] == [text] * 4


def test_outcome_in_a_response() -> None:
    data = rpc.response_head(7) + failure(7, "refused", "http://x/", 5) + appendix("a-1", "R", NIL)
    kind, msgid, error, reply = msgpack.unpackb(data)
    assert (kind, msgid, error, set(reply)) == (1, 7, None, MEMBERS)


# -- status lines


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"HTTP/1.1 200 OK\r\n", (200, "OK", "1.1")),
        (b"HTTP/1.1 200 OK", (200, "OK", "1.1")),
        (b"HTTP/1.0 404 Not Found\r\n", (404, "Not Found", "1.0")),
        (b"HTTP/2 200 \r\n", (200, "", "2")),
        (b"HTTP/3 204\r\n", (204, "", "3")),
        (b"HTTP/1.1 299 Odd but  true\r\n", (299, "Odd but  true", "1.1")),
        (b"HTTP/1.1  200  OK\r\n", (200, "OK", "1.1")),
        (b"HTTP/1.1 200 Gr\xfcn\r\n", (200, "Grün", "1.1")),
        (b"", (0, "", "")),
        (b"\r\n", (0, "", "")),
        (b"SSH-2.0-OpenSSH\r\n", (0, "", "")),
        (b"HTTP/1.1\r\n", (0, "", "")),
        (b"HTTP/1.1 abc OK\r\n", (0, "", "")),
        (b"HTTP/1.1 -20 OK\r\n", (0, "", "")),
        (b"HTTP/1.1 2\xb20 OK\r\n", (0, "", "")),
    ],
)
def test_status(line: bytes, found: tuple[int, str, str]) -> None:
    assert status(line) == found


#: the first byte of a map with 14 members
REPLY_OF_14 = 0x8E


@given(st.binary(max_size=40) | st.from_regex(rb"HTTP/[0-9.]{1,4} [0-9]{1,30} .{0,10}", fullmatch=True))
@PROPERTY
def test_any_status_line_can_travel(line: bytes) -> None:
    assert begin(0, None, *status(line))[0] == REPLY_OF_14


@pytest.mark.parametrize("digits", [4, 19, 20, 21, 4300, 5000, 60_000])
def test_status_of_many_digits_can_travel(digits: int) -> None:
    assert begin(0, None, *status(b"HTTP/1.1 " + b"9" * digits + b" OK"))[0] == REPLY_OF_14


@pytest.mark.parametrize("digits", [4, 25, 5000])
def test_status_of_many_digits_does_not_cost_the_worker(
    start_daemon: StartDaemon, start_origin: StartOrigin, digits: int
) -> None:
    """One origin's nonsense must not end other callers' transfers."""
    line = b"HTTP/1.1 " + b"9" * digits + b" OK\r\nContent-Length: 0\r\n\r\n"

    def script(sock: socket.socket, head: bytes) -> None:
        if b"/absurd" in head:
            sock.sendall(line)
        else:
            answer(sock, head)

    daemon = start_daemon()
    daemon.tolerate.update(("Traceback", " ERROR "))  # it is the replies that tell
    url = start_origin(script).url
    with daemon.client() as client:
        assert client.query(f"{url}/absurd").err != "worker lost"
        assert client.query(f"{url}/decent").rb == b"ok"
