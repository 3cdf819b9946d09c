"""The targets without a socket: the decoder, queries, pseudo variables and redaction. And the table of all targets."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from fuzz import session
from fuzz.draw import Draw
from hacd import pseudovars, query, rpc
from hacd.errors import BadRequest, ProtocolError
from hacd.expansion import EXPANDED_MAX
from hacd.front import methods
from hacd.log import redaction

MAX_FRAME = 256

#: characters that a line is stretched to, and s that it may take then: what is quadratic takes many times that
STRETCHED = 65_536
PATIENCE = 1.0

#: what `pseudovars.parse` is given values for
VALUES = ("", "a b", "$x", b"\xff\x00", 7, 1.5, None, ["a", "b"], {"k": b"\xff"}, "\udcff")


class Target(NamedTuple):
    """`run(data)` raises where there is a bug; `seeds`: what it begins with."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


# -- the decoder


def decoder(data: bytes) -> None:
    """Any bytes in any chunks: the same messages as in one, and nothing but a ProtocolError behind them."""
    draw = Draw(data)
    sizes = [1 + draw.number(256) for _ in range(4)]
    stream = draw.rest()
    chunks, turn = [], 0
    while stream:
        size = sizes[turn % len(sizes)]
        chunks.append(stream[:size])
        stream, turn = stream[size:], turn + 1
    whole, _ = _decoded([b"".join(chunks)])
    pieces, broken = _decoded(chunks)
    assert _repacked(pieces) == _repacked(whole), f"{pieces} in chunks, {whole} in one"
    assert broken is None or "\n" not in str(broken), broken


def _decoded(chunks: list[bytes]) -> tuple[list[Any], ProtocolError | None]:
    taken = rpc.Decoder(MAX_FRAME)
    messages: list[Any] = []
    for chunk in chunks:
        try:
            taken.feed(chunk, messages)
        except ProtocolError as error:
            return messages, error
    assert taken.fed == sum(map(len, chunks))
    return messages, None


def _repacked(messages: list[Any]) -> list[bytes]:
    """What a caller may say can be said back to him; and NaN is equal to itself."""
    return [rpc.pack(message) for message in messages]


# -- a query

_URLS = ("http://h/", "https://u:p@h:1/a?b=$x", "http://$x/$(y{s.escape.param})", "ftp://h/", "http:///", "")
_LINES = ("A: b", "A;", "$x: 1", "X: $(http_req(hdr)[*])", "Content-Length: 1", "A\r\nB: c", "A: $http_req(body)")


def a_query(data: bytes) -> None:
    """Any params: a query that can be packed as a job, or a BadRequest of one line."""
    draw = Draw(data)
    if draw.number(2):
        params = [_url(draw), _options(draw)]
        _judge(params)
        return
    messages: list[Any] = []
    with suppress(ProtocolError):
        rpc.Decoder(rpc.CHUNK).feed(draw.rest()[: rpc.CHUNK], messages)
    for params in messages:
        _judge(params)


def _url(draw: Draw) -> str:
    return draw.of(_URLS) + draw.text()


def _options(draw: Draw) -> dict[Any, Any]:
    options: dict[Any, Any] = {}
    names = (*query.KEYS, "no_such")
    while draw and len(options) < len(names):
        name = draw.of(names)
        if name == "vars":
            options[name] = {draw.of(("x", "y", "http_x", "")): _value(draw) for _ in range(draw.number(4))}
        elif name == "hdr":
            options[name] = [draw.of(_LINES) + draw.text() for _ in range(draw.number(4))]
        else:
            options[name] = _value(draw)
    return options


def _value(draw: Draw) -> Any:
    kind = draw.number(8)
    if kind == 0:
        return draw.text()
    if kind == 1:
        return draw.take(draw.number(256))
    if kind == 2:
        return int.from_bytes(draw.take(8), signed=True)
    plain = ("GET", "HEAD", "/", "/etc/passwd", 0, 1, True, None, 1.0, float("nan"), "$x$$$(y)", [1], {"a": b""})
    return draw.of(plain)


def _judge(params: Any) -> None:
    try:
        url, origin, route, suspend, xdata, timeout, hdr, body, shape, login = query.parse(params)
    except BadRequest as wrong:
        assert "\n" not in wrong.message, wrong.message
        rpc.response(1, wrong.as_wire(), None)
        return
    assert url.isprintable(), url
    assert " " not in url, url
    assert origin in query.redacted(url), url
    assert all(line.isprintable() or not {*"\r\n\0"} & {*line} for line in hdr or ())
    assert suspend in (0, 1)
    assert body is None or len(body) <= len(repr(params)) + EXPANDED_MAX
    rpc.unpack(xdata)
    query.is_idempotent(shape, body is not None)
    rpc.pack((1, url, timeout, hdr, body, shape, 0, login, 0))
    rpc.pack(route)


# -- pseudo variables


class _Values:
    """A scope in which each name has one of VALUES."""

    def pv(self, name: str, key: str | None, index: pseudovars.Index) -> Any:
        value = VALUES[len(name) % len(VALUES)]
        return pseudovars.pick([value, key], index)


def pseudo_variables(data: bytes) -> None:
    """Any text: a template, or a BadRequest of one line; not strictly parsed, always a template."""
    text = data.decode("utf-8", "surrogateescape")
    for strict in (True, False):
        try:
            template = pseudovars.parse(text, strict)
        except BadRequest as wrong:
            assert strict, wrong
            continue
        assert template.size <= len(text)
        with suppress(BadRequest):
            expanded = template.expand(_Values(), most=1000)
            assert len(expanded) <= template.size + 1000
            if expanded:
                template.culprit(_Values(), len(expanded) - 1)
        with suppress(BadRequest):
            template.expand_bytes(_Values(), most=1000)
    with suppress(BadRequest):
        pseudovars.value(text, _Values())


# -- redaction


def redact(data: bytes) -> None:
    """Any line, and a long one of the same sort: no exception, and no more time than its length is worth."""
    draw = Draw(data)
    continues, first = bool(draw.number(2)), draw.text()
    unit, last = draw.text(), draw.rest().decode("latin-1")
    _redacted(first + unit + last, continues)
    stretched = first + unit * (STRETCHED // len(unit) if unit else 0) + last
    begin = time.process_time()
    _redacted(stretched, continues)
    took = time.process_time() - begin
    assert took < PATIENCE, f"{len(stretched)} characters took {took:.1f} s"


def _redacted(text: str, continues: bool) -> None:
    redaction.line(text)
    hidden, _ = redaction.header(text, continues)
    name, colon, _ = text.partition(":")
    if colon and redaction.is_secret(name) and not (continues and text[:1] in (" ", "\t")):
        assert hidden == f"{name}: {redaction.HIDDEN}", hidden


# -- the table


def _packed(*params: Any) -> tuple[bytes, ...]:
    return tuple(b"\x00" + rpc.pack(list(each)) for each in params)


_QUERIES = _packed(
    ["http://h/"],
    ["http://h/", {"route": "r", "suspend": 0, "xdata": {"a": [1, None, b"\xff"]}, "timeout": 1000}],
    ["https://u:p@h:1/?a=$x", {"vars": {"x": "1 2"}, "hdr": ["A: $x", "B;"], "body": b"$(x{s.escape.param})"}],
    ["http://h/", {"method": "PUT", "body": "b", "username": "u", "password": "p", "authmethod": 3, "all": None}],
    ["http://h/", {"tls_ca_path": "/etc", "http_version": 2, "verbose": 1, "tcp_ka_idle": 9, "follow_redirect": 1}],
)

TARGETS = {
    "decoder": Target(decoder, tuple(seed[:3] + b"\xff" + seed for seed in session.SEEDS)),
    "query": Target(a_query, (*_QUERIES, b"\x01\x01\x03a=b\x03\x02\x00\x02$x\x04\x02\x01", bytes(range(1, 120)))),
    "pseudovars": Target(
        pseudo_variables, (b"a$x$$", b"$(x(k)[-1]{s.escape.param})", b"$http_req(hdr)", b"$(http_hdr(A)[*])\xff")
    ),
    "redaction": Target(
        redact,
        (
            b"\x01\x07http://\x04a:b@host",
            b"\x00\x0fAuthorization: \x03abcd",
            b"\x00\x09[cookie: \x02a]x",
            b"\x00\x01?\x04a=b&token=c",
            b"\x00\x0bLocation://\x02/@b",
        ),
    ),
    "session": Target(session.run, session.SEEDS),
}

#: what a mutation may put in: the words of the wire, packed
WORDS = (*map(rpc.pack, (*methods.NAMES, *query.KEYS, "http://h/")), b"\xc1", b"$(", b"\x94\x00")
