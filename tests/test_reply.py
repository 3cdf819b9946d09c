"""A reply under the manual's names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacd.reply import Reply, parse_headers

#: the same examples each time, however slow the machine is
PROPERTY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/html\r\n"
    b"Via: a\r\n"
    b"via:  b \r\n"
    b"X-Fold: one\r\n two\r\n\tthree\r\n"
    b"X-Empty:\r\n"
    b"X-Colons: a:b: c\r\n"
    b"VIA: c\r\n"
    b"\r\n"
)


def with_head(head: bytes) -> Reply:
    return Reply({"head": head})


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_hdr_by_name_in_any_case(name: str) -> None:
    assert with_head(HEAD).hdr(name) == "text/html"


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, "a"), (1, "b"), (2, "c"), (3, None), (-1, "c"), (-2, "b"), (-3, "a"), (-4, None), (99, None)],
)
def test_hdr_by_index(index: int, value: str | None) -> None:
    assert with_head(HEAD).hdr("Via", index) == value


def test_hdr_that_is_not_there() -> None:
    reply = with_head(HEAD)
    assert [reply.hdr("X-None"), reply.hdr("X-None", -1), reply.hdr(""), reply.hdr("HTTP/1.1 200 OK")] == [None] * 4


def test_folded_lines() -> None:
    assert with_head(HEAD).hdr("X-Fold") == "one two three"


def test_empty_value_and_colons_in_a_value() -> None:
    reply = with_head(HEAD)
    assert (reply.hdr("X-Empty"), reply.hdr("X-Colons")) == ("", "a:b: c")


def test_headers_in_order() -> None:
    names = [name for name, _ in with_head(HEAD).headers]
    assert names == ["Content-Type", "Via", "via", "X-Fold", "X-Empty", "X-Colons", "VIA"]


def test_lines_that_end_in_lf_alone() -> None:
    assert parse_headers(HEAD.replace(b"\r\n", b"\n")) == parse_headers(HEAD)


@pytest.mark.parametrize("head", [b"", b"\r\n", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n\r\n", b"X: status line\r\n"])
def test_no_headers(head: bytes) -> None:
    assert with_head(head).headers == []


def test_line_without_a_colon_is_passed_over() -> None:
    assert parse_headers(b"HTTP/1.1 200 OK\r\nnonsense\r\nA: b\r\n\r\n") == [("A", "b")]


def test_fold_with_nothing_before_it() -> None:
    assert parse_headers(b"HTTP/1.1 200 OK\r\n folded: x\r\nA: b\r\n\r\n")[-1] == ("A", "b")


@pytest.mark.parametrize("value", [b"caf\xe9", b"gr\xc3\xbcn", b"voil\xc3\xa0", b"\xa0", b"\x85x\x85", b"a\x0bb\x1cc"])
def test_bytes_beyond_ascii_are_latin1_and_all_there(value: bytes) -> None:
    found = with_head(b"HTTP/1.1 200 OK\r\nX: " + value + b" \r\n\r\n").hdr("X")
    assert found is not None
    assert found.encode("latin-1") == value


@given(
    st.lists(
        st.tuples(
            st.from_regex("[A-Za-z-]{1,10}", fullmatch=True), st.from_regex(rb"([!-\xff]{1,10})?", fullmatch=True)
        )
    )
)
@PROPERTY
def test_any_headers(headers: list[tuple[str, bytes]]) -> None:
    lines = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in headers)
    expected = [(name, value.decode("latin-1")) for name, value in headers]
    assert parse_headers(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n") == expected


@given(st.binary(max_size=200))
@PROPERTY
def test_any_bytes_as_head(head: bytes) -> None:
    reply = with_head(head)
    for name, _ in reply.headers:
        assert reply.hdr(name) is not None


def test_members() -> None:
    time = {"total": 5, "queue": 1}
    members = {
        "id": "a-1",
        "route": "R",
        "ok": 1,
        "code": 0,
        "err": None,
        "rs": 200,
        "rr": "OK",
        "head": b"h",
        "rb": b"body",
    }
    reply = Reply(members | {"time": time, "url": "http://x/", "ip": "::1", "http_version": "2", "xdata": [1]}, 3)
    assert (reply.id, reply.route, reply.ok, reply.code, reply.err) == ("a-1", "R", 1, 0, None)
    assert (reply.rs, reply.rr, reply.head, reply.rb) == (200, "OK", b"h", b"body")
    assert (reply.mb, reply.bs, reply.ml) == (b"hbody", 4, 5)
    assert (reply.time, reply.url, reply.ip, reply.http_version) == (time, "http://x/", "::1", "2")
    assert (reply.xdata, reply.index) == ([1], 3)


def test_missing_members() -> None:
    reply = Reply({})
    assert (reply.id, reply.route, reply.ok, reply.code, reply.err) == ("", "", 0, 0, None)
    assert (reply.rs, reply.rr, reply.head, reply.rb, reply.mb, reply.bs, reply.ml) == (0, "", b"", b"", b"", 0, 0)
    assert (reply.time, reply.url, reply.ip, reply.http_version) == ({}, "", "", "")
    assert (reply.xdata, reply.index, reply.headers, reply.hdr("A")) == (None, None, [], None)
    assert repr(reply)


def test_as_map_is_a_copy() -> None:
    reply = Reply({"rs": 200, "time": {"total": 1}})
    found: dict[str, Any] = reply.as_map()
    assert found == {"rs": 200, "time": {"total": 1}}
    found["rs"] = 500
    reply.time["total"] = 2
    assert (reply.rs, reply.time) == (200, {"total": 1})


def test_headers_are_parsed_once() -> None:
    reply = with_head(HEAD)
    assert reply.headers is reply.headers


@pytest.mark.parametrize(
    ("members", "shown"),
    [
        (
            {"id": "a-1", "ok": 1, "rs": 200, "rr": "OK", "url": "http://x/", "rb": b"12"},
            "<Reply a-1 http://x/ 200 OK, 2 bytes>",
        ),
        ({"id": "a-1", "ok": 1, "rs": 200, "url": "http://x/"}, "<Reply a-1 http://x/ 200, 0 bytes>"),
        ({"id": "a-1", "code": 28, "err": "late", "url": "http://x/"}, "<Reply a-1 http://x/ 28 late, 0 bytes>"),
    ],
)
def test_repr(members: dict[str, Any], shown: str) -> None:
    assert repr(Reply(members)) == shown
