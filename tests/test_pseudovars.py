"""Pseudo variables: how they are written, what is wrong of them, and what they are of a reply."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacd import pseudovars
from hacd.errors import BadRequest
from hacd.pseudovars import ALL, NAMES, PLACES_MAX, Index, Template, escape_param, parse, pick, text_of, value
from hacd.reply import Reply, ReplyScope

#: the same examples each time, however slow the machine is
PROPERTY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Scope:
    """Some values by name, and what was asked for."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.asked: list[tuple[str, str | None, Index]] = []

    def pv(self, name: str, key: str | None, index: Index) -> Any:
        self.asked.append((name, key, index))
        return self.values.get(name)


SCOPE = Scope(rU="alice", number=7, raw=b"\x00\xff", half=0.5, yes=True, nothing=None)


def wrong(text: str | bytes) -> str:
    """The one line that says why."""
    with pytest.raises(BadRequest) as caught:
        parse(text)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value.message


# -- how they are written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain (text) {with} [brackets]", "plain (text) {with} [brackets]"),
        ("$rU", "alice"),
        ("$(rU)", "alice"),
        ("<$rU>", "<alice>"),
        ("$rU$rU$number", "alicealice7"),
        ("$(rU)x", "alicex"),
        ("$rU[0]", "alice[0]"),
        ("$rU{s.escape.param}", "alice{s.escape.param}"),
        ("$rU.x-$number/", "alice.x-7/"),
        ("$(rU)(x)", "alice(x)"),
        ("$$", "$"),
        ("$$$$", "$$"),
        ("$$rU", "$rU"),
        ("$$$rU", "$alice"),
        ("$null", ""),
        ("[$(null)]", "[]"),
        ("$none", ""),
        ("$nothing", ""),
        ("$half", "0.5"),
        ("$yes", "1"),
        ("$raw", "\x00\udcff"),
        ("grün $rU grün", "grün alice grün"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert parse(text).expand(SCOPE) == expected
    assert parse(text.encode()).expand_bytes(SCOPE) == expected.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("$rU", ("rU", None, None)),
        ("$_x9", ("_x9", None, None)),
        ("$(rU)", ("rU", None, None)),
        ("$(rU[0])", ("rU", None, 0)),
        ("$(rU[-2])", ("rU", None, -2)),
        ("$(rU[*])", ("rU", None, ALL)),
        ("$http_hdr(X-Foo)", ("http_hdr", "X-Foo", None)),
        ("$(http_hdr(X-Foo))", ("http_hdr", "X-Foo", None)),
        ("$(http_hdr(X-Foo)[1])", ("http_hdr", "X-Foo", 1)),
        ("$(http_hdr(X-Foo)[-1])", ("http_hdr", "X-Foo", -1)),
        ("$(http_hdr(X-Foo)[*])", ("http_hdr", "X-Foo", ALL)),
        ("$(http_hdr(a [1] {b} (c)[2]{s.escape.param})", ("http_hdr", "a [1] {b} (c", 2)),
        ("$http_req_id", ("http_req_id", None, None)),
        ("$http_query_id", ("http_req_id", None, None)),
        ("$(http_query_id[0])", ("http_req_id", None, 0)),
    ],
)
def test_what_a_scope_is_asked_for(text: str, asked: tuple[str, str | None, Index]) -> None:
    scope = Scope()
    parse(text).expand(scope)
    assert scope.asked == [asked]


def test_null_is_not_asked_for() -> None:
    scope = Scope(null="something")
    assert parse("$null $(null)").expand(scope, "<null>") == "<null> <null>"
    assert scope.asked == []


def test_null_in_a_log_line() -> None:
    assert parse("body $nothing of $rU").expand(SCOPE, "<null>") == "body <null> of alice"


def test_a_value_is_not_parsed() -> None:
    scope = Scope(a="$b $$ $(", b="never")
    assert parse("$a").expand(scope) == "$b $$ $("


def test_a_variable_is_evaluated_once() -> None:
    scope = Scope(a="x")
    assert parse("$a$a$(a)$a").expand(scope) == "xxxx"
    assert len(scope.asked) == 2  # as it is written: $a and $(a)


def test_body_takes_bytes_as_they_are() -> None:
    scope = Scope(raw=b"\xff\x00", text="ü", escaped="\udcfe", none=None)
    assert parse(b"\xfd$raw$text$escaped$none$$").expand_bytes(scope) == b"\xfd\xff\x00\xc3\xbc\xfe$"


def test_half_a_character_is_no_body() -> None:
    with pytest.raises(BadRequest, match="half a character"):
        parse("$a").expand_bytes(Scope(a="\ud800"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("alice", "alice"),
        ("AZaz09-._~", "AZaz09-._~"),
        ("a&b=c d+e/f?g#h%i", "a%26b%3Dc%20d%2Be%2Ff%3Fg%23h%25i"),
        ("grün", "gr%C3%BCn"),
        ("\r\n\x00", "%0D%0A%00"),
        (b"\xff\xfe", "%FF%FE"),
        ("\udcff", "%FF"),
        (7, "7"),
    ],
)
def test_escape_param(data: Any, expected: str) -> None:
    assert parse("<$(x{s.escape.param})>").expand(Scope(x=data)) == f"<{expected}>"


def test_transformations_in_a_row_and_of_null() -> None:
    assert parse("$(x{s.escape.param}{s.escape.param})").expand(Scope(x="&")) == "%2526"
    assert parse("$(x{s.escape.param})").expand(Scope(x=None), "<null>") == "<null>"
    assert value("$(http_hdr(A)[1]{s.escape.param})", Scope(http_hdr=" ")) == "%20"


@given(st.binary())
@PROPERTY
def test_escaped_bytes_come_back(data: bytes) -> None:
    from urllib.parse import unquote_to_bytes

    escaped = escape_param(data)
    assert unquote_to_bytes(escaped) == data
    assert not set(escaped) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")


# -- the typed value of one variable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$rU", "alice"),
        ("$number", 7),
        ("$(number)", 7),
        ("$raw", b"\x00\xff"),
        ("$half", 0.5),
        ("$nothing", None),
        ("$null", None),
        ("$$", "$"),
        ("no variable", "no variable"),
        ("$number ", "7 "),
        ("$number$number", "77"),
        ("", ""),
    ],
)
def test_value(text: str, expected: Any) -> None:
    found = value(text, SCOPE)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, None),
        ("", ""),
        (0, "0"),
        (-(2**63), str(-(2**63))),
        (True, "1"),
        (False, "0"),
        (1.5, "1.5"),
        (b"a\xff", "a\udcff"),
        ([1, "ü", None, b"x"], '[1,"ü",null,"x"]'),
        ({"a": {"b": True}}, '{"a":{"b":true}}'),
        ({b"bytes": 1}, None),
        (object(), None),
    ],
)
def test_text_of(data: Any, expected: str | None) -> None:
    assert text_of(data) == expected


def test_text_of_what_is_too_deep() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert text_of(deep) is None


@pytest.mark.parametrize(
    ("index", "expected"),
    [(None, "a"), (0, "a"), (2, "c"), (3, None), (-1, "c"), (-3, "a"), (-4, None), (ALL, "a, b, c")],
)
def test_pick(index: Index, expected: str | None) -> None:
    assert pick(["a", "b", "c"], index) == expected


@pytest.mark.parametrize(
    ("index", "expected"), [(None, b"x"), (0, b"x"), (-1, b"x"), (1, None), (-2, None), (ALL, b"x")]
)
def test_pick_of_one_keeps_its_type(index: Index, expected: bytes | None) -> None:
    assert pick([b"x"], index) == expected
    assert pick([], index) is None


# -- what is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("012345678901$ x", "$ at 12: a name or $( would be right; $$ for a dollar"),
        ("5$", "$ at 1: a name or $( would be right; $$ for a dollar"),
        ("$5", "$ at 0: a name"),
        ("ü$ü", "$ at 1: a name"),
        ("a $(", "$( at 2: $(name)"),
        ("$()", "$( at 0: "),
        ("$(rU", "$( at 0: "),
        ("$(rU[x])", "$( at 0: "),
        ("$(rU[1)", "$( at 0: "),
        ("$(rU[0]", "$( at 0: "),
        ("$(rU[])", "$( at 0: "),
        ("$(rU[1234567890])", "$( at 0: "),
        ("$( rU)", "$( at 0: "),
        ("$(rU{s.escape.param)", "$( at 0: "),
        ("$(rU{}{s.escape.param})", "$rU at 0: there is no transformation ''; there are: s.escape.param"),
        ("$(rU{s.escape.parm})", "$rU at 0: there is no transformation 's.escape.parm'; did you mean s.escape.param?"),
        ("$http_r", "$http_r at 0: there is no such variable; did you mean http_r"),
        (" $http_xdat(", "$http_xdat at 1: there is no such variable; did you mean http_xdata"),
        ("$http_", "$http_ at 0: there is no such variable"),
        ("$http_hdr", "$http_hdr at 0: it takes a key: $http_hdr(KEY) would be right"),
        ("$http_hdr()", "$http_hdr at 0: it takes a key"),
        ("$http_hdr(Via", "$http_hdr at 0: it takes a key"),
        ("$(http_hdr[1])", "$http_hdr at 0: it takes a key"),
        ("$http_hdr($rU)", "$http_hdr at 0: there is a $ in its key: a key holds no variables"),
        ("$http_rs(x)", "$http_rs at 0: it takes no key: $(http_rs)( would be right for a ( behind it"),
        ("f($rU(x))", "$rU at 2: it takes no key: $(rU)( would be right"),
        ("$rU(", "$rU at 0: it takes no key"),
        ("$(rU(x))", "$rU at 0: it takes no key"),
        ("$null(x)", "$null at 0: it takes no key"),
    ],
)
def test_wrong_text(text: str, message: str) -> None:
    assert wrong(text).startswith(message)
    assert wrong(text.encode()).startswith(message)


def test_bounds() -> None:
    assert parse("$a" * PLACES_MAX).places == PLACES_MAX
    assert str(PLACES_MAX) in wrong("$a" * (PLACES_MAX + 1))
    assert str(PLACES_MAX) in wrong("$$" * (PLACES_MAX + 1))
    assert parse("$" + "a" * pseudovars.NAME_MAX).places == 1
    assert str(pseudovars.NAME_MAX) in wrong("$" + "a" * (pseudovars.NAME_MAX + 1))
    chain = "{s.escape.param}" * pseudovars.TRANSFORMATIONS_MAX
    assert parse(f"$(a{chain})").places == 1
    assert str(pseudovars.TRANSFORMATIONS_MAX) in wrong(f"$(a{chain}{{s.escape.param}})")


@pytest.mark.parametrize("text", ["$a$b", "literal $a, and $a, $b"])
def test_most_is_what_variables_put_in(text: str) -> None:
    scope = Scope(a="x" * 10, b="y")
    size = len(parse(text).expand(scope)) - parse(text).size
    parse(text).expand(scope, most=size)
    parse(text).expand_bytes(scope, most=size)
    with pytest.raises(BadRequest, match=f"make {size} characters: at most {size - 1} "):
        parse(text).expand(scope, most=size - 1)
    with pytest.raises(BadRequest, match=f"make {size} bytes: at most {size - 1} "):
        parse(text).expand_bytes(scope, most=size - 1)


def test_a_bomb_takes_no_memory() -> None:
    """A thousand times a value of 64 MiB is refused without being made."""
    scope = Scope(a="x" * pseudovars.EXPANDED_MAX)
    with pytest.raises(BadRequest, match="at most"):
        parse("$a" * PLACES_MAX).expand(scope)


def test_the_cache_is_bounded() -> None:
    for number in range(3 * pseudovars.CACHE_MAX):
        parse(f"$a {number}")
        assert len(pseudovars._CACHE) <= pseudovars.CACHE_MAX
    assert parse("$a again") is parse("$a again")
    long = "$a " + "x" * pseudovars.CACHED_MAX
    assert parse(long) is not parse(long)
    assert parse("$", strict=False).expand(SCOPE) == "$"
    assert wrong("$")  # what was cached of a log line is not it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("costs 5$", "costs 5$"),
        ("$ $rU $5", "$ alice $5"),
        ("$(rU $rU", "$(rU alice"),
        ("$http_foo $$", "$http_foo $"),
        ("$rU(x)", "$rU(x)"),
        ("$a" * (PLACES_MAX + 1), "$a"),
    ],
)
def test_not_strict(text: str, expected: str) -> None:
    """As log lines are read: what is no variable stands for itself, and nothing is an error."""
    assert parse(text, strict=False).expand(SCOPE) == expected


def test_culprit() -> None:
    template = parse("ab$rU$(nothing)c$(number)")  # abalicec7
    found = [template.culprit(SCOPE, place) for place in range(10)]
    assert found == [None, None, *["$rU"] * 5, None, "$(number)", None]


# -- properties


TOKENS = st.lists(st.sampled_from(["$", "$(", "http_hdr", "rU", "(", ")", "[*]", "[-1]", "{s.escape.param}"])).map(
    "".join
)


@given(st.text() | st.text(alphabet="$()[]{}*-0a_hrs.") | TOKENS)
@settings(PROPERTY, max_examples=1000)
def test_parse_raises_bad_request_alone(text: str) -> None:
    with suppress(BadRequest):
        parse(text).expand(SCOPE)
    with suppress(BadRequest):
        parse(text.encode()).expand_bytes(SCOPE)
    parse(text, strict=False).expand(SCOPE)


@given(st.binary())
@PROPERTY
def test_parse_of_bytes_raises_bad_request_alone(data: bytes) -> None:
    with suppress(BadRequest):
        parse(data).expand_bytes(SCOPE)
    assert parse(data.replace(b"$", b"$$")).expand_bytes(SCOPE) == data


@given(st.text())
@PROPERTY
def test_literal_text_comes_back(text: str) -> None:
    assert parse(text.replace("$", "$$")).expand(SCOPE) == text


NAME = st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True).filter(
    lambda name: name != "null" and not name.startswith("http_")
)
PIECE = st.tuples(st.just(None), st.text()) | st.tuples(NAME, st.text() | st.none() | st.integers(-9, 9))


@given(st.lists(PIECE, max_size=8))
@PROPERTY
def test_expansion_is_concatenation(pieces: list[tuple[str | None, Any]]) -> None:
    values = {name: data for name, data in pieces if name is not None}
    text = "".join([data.replace("$", "$$") if name is None else f"$({name})" for name, data in pieces])
    expected = [data if name is None else text_of(values[name]) or "" for name, data in pieces]
    template = parse(text)
    assert template.expand(Scope(**values)) == "".join(expected)
    assert template.expand_bytes(Scope(**values)) == "".join(expected).encode()


def test_what_is_written_by_hand_is_a_template_too() -> None:
    assert Template(["a", "b"]).expand(SCOPE) == "ab"


# -- on a reply

HEAD = b"HTTP/1.1 200 Fine\r\nVia: a\r\nVia: b\r\nvia: c\r\nX-One: 1\r\n\r\n"
REPLY = Reply(
    {
        "id": "a-1",
        "route": "R",
        "ok": 1,
        "code": 0,
        "err": None,
        "rs": 200,
        "rr": "Fine",
        "head": HEAD,
        "rb": b"\x00\xff",
        "time": {"total": 12, "queue": 3},
        "xdata": {"call": "1@host"},
    }
)
FAILED = Reply({"id": "a-2", "ok": 0, "code": 7, "err": "refused", "rs": 0, "rr": "", "time": {"total": 5}})

VALUES: dict[str, tuple[Any, Any]] = {
    "$http_req_id": ("a-1", "a-2"),
    "$http_query_id": ("a-1", "a-2"),
    "$http_ok": (1, 0),
    "$http_err": (None, "refused"),
    "$http_rs": (200, None),
    "$http_rr": ("Fine", None),
    "$http_hdr(X-One)": ("1", None),
    "$http_hdr(x-one)": ("1", None),
    "$http_hdr(Via)": ("a", None),
    "$(http_hdr(Via)[0])": ("a", None),
    "$(http_hdr(Via)[1])": ("b", None),
    "$(http_hdr(Via)[-1])": ("c", None),
    "$(http_hdr(Via)[3])": (None, None),
    "$(http_hdr(Via)[-4])": (None, None),
    "$(http_hdr(Via)[*])": ("a, b, c", None),
    "$(http_hdr(X-One)[*])": ("1", None),
    "$http_hdr(X-None)": (None, None),
    "$(http_hdr(X-None)[*])": (None, None),
    "$http_mb": (HEAD + b"\x00\xff", None),
    "$http_ml": (len(HEAD) + 2, None),
    "$http_rb": (b"\x00\xff", None),
    "$http_bs": (2, None),
    "$http_time(total)": (12, 5),
    "$http_time(queue)": (3, None),
    "$http_time(none)": (None, None),
    "$http_xdata": ({"call": "1@host"}, None),
    "$(http_rs[0])": (200, None),
    "$(http_rs[1])": (None, None),
    "$(http_rs[*])": (200, None),
    "$http_req(timeout)": (None, None),
    "$rU": (None, None),
    "$null": (None, None),
    "$$": ("$", "$"),
    "$http_rs $http_rr": ("200 Fine", " "),
    "$http_xdata ": ('{"call":"1@host"} ', " "),
}


@pytest.mark.parametrize("text", VALUES)
def test_reply(text: str) -> None:
    for reply, expected in zip((REPLY, FAILED), VALUES[text], strict=True):
        found = reply.pv(text)
        assert (type(found), found) == (type(expected), expected)


def test_every_name_is_tried() -> None:
    assert [name for name in NAMES if not any(name in text for text in VALUES)] == []


@pytest.mark.parametrize("text", [text for text in VALUES if text != "$$" and " " not in text])
def test_without_a_reply_all_is_null(text: str) -> None:
    assert value(text, ReplyScope(None)) is None


def test_an_error_in_mid_reply_has_what_came() -> None:
    reply = Reply({"ok": 0, "code": 18, "err": "cut", "rs": 200, "rr": "", "head": HEAD, "rb": b""})
    assert [reply.pv(f"$http_{name}") for name in ("err", "rs", "rr", "rb", "bs")] == ["cut", 200, "", b"", 0]


def test_a_wrong_text_for_a_reply() -> None:
    with pytest.raises(BadRequest, match="no such variable"):
        REPLY.pv("$http_status")
