"""What a caller says is judged before anything is sent."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacd import query, rpc
from hacd.errors import BAD_REQUEST, BadRequest
from hacd.query import KEYS, TIMEOUT_MAX, parse, redacted

#: the same examples each time, however slow the machine is
PROPERTY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

URL = "http://127.0.0.1:8080/test.php?r_uri=alice"

#: places in a query
ORIGIN, ROUTE, SUSPEND, XDATA, TIMEOUT, HDR, BODY, SHAPE = range(1, 9)

CONTROL = [*map(chr, range(0x20)), "\x7f"]


def given_(**options: Any) -> query.Query:
    return parse([URL, options])


def refused(*params: Any, **options: Any) -> str:
    """The one line that says why."""
    with pytest.raises(BadRequest) as caught:
        parse(list(params) or [URL, options])
    assert caught.value.code == BAD_REQUEST
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    return caught.value.message


WRONG: dict[str, list[Any]] = {
    "route": [1, b"R", ["R"], {}, True, "a\nb", "a\x00", "\x7f", "\udc80"],
    "suspend": [2, -1, "1", "0", 1.0, 0.0, [], {}, b""],
    "method": [1, b"GET", "", "G T", "GET\r\n", "GET /x", "GÉT", "GET\n", ["GET"], True],
    "hdr": [
        *("X: y", b"X: y", {"X": "y"}, 1, True, ("X: y",)),
        *([value] for value in (b"X: y", 1, None, ["X: y"], "", ":", ": y", "X", "X Y: z", "X : y", "X;y")),
        *(["A: b", value] for value in ("Ü: x", " X: y", "X\t: y", "(X): y", "X: \ud800", "X: \udcff")),
    ],
    "body": [1, 1.5, True, ["x"], {"a": 1}],
}


STICKY = {
    "method": "PUT",
    "authmethod": 2,
    "tls_client_cert": "/etc/passwd",
    "tls_client_key": "/etc/passwd",
    "tls_ca_path": "/etc",
    "tcp_keepalive": 1,
    "tcp_ka_idle": 10,
    "tcp_ka_interval": 20,
    "follow_redirect": 1,
    "http_version": 2,
    "verbose": 1,
}


# -- what is right


def test_url_alone() -> None:
    expected = (URL, "http://127.0.0.1:8080", "", 1, rpc.pack(None), None, None, None, b"", None)
    assert parse([URL]) == expected
    assert parse([URL, {}]) == expected
    assert parse([URL, dict.fromkeys(KEYS)]) == expected


def test_every_option() -> None:
    options = {
        "route": "HTTP_REPLY",
        "suspend": 0,
        "xdata": {"any": [1, b"x"]},
        "timeout": 100,
        "hdr": ["X-Foo: bar"],
        "body": b"\x00\xff",
        **STICKY,
        "username": "alice",
        "password": "secret",
        "all": None,
        "vars": {"rU": "alice"},
    }
    assert set(options) == set(KEYS)
    xdata, shape = rpc.pack({"any": [1, b"x"]}), rpc.pack(STICKY)
    expected = ("HTTP_REPLY", 0, xdata, 100, ["X-Foo: bar"], b"\x00\xff", shape, ("alice", "secret"))
    assert parse([URL, options])[ROUTE:] == expected


def test_order_of_options_makes_no_other_shape() -> None:
    assert given_(**STICKY)[SHAPE] == given_(**dict(reversed(STICKY.items())))[SHAPE]


@pytest.mark.parametrize(("login", "expected"), [({"username": "a"}, ("a", "")), ({"password": "p"}, ("", "p"))])
def test_half_a_login(login: dict[str, str], expected: tuple[str, str]) -> None:
    assert given_(**login)[-1] == expected


@pytest.mark.parametrize("name", ["username", "password"])
@pytest.mark.parametrize("value", ["hunter2\r\n", "hunter2\x00", "hunter2" * 1000, b"hunter2", ["hunter2"]])
def test_no_part_of_a_login_is_in_a_message(name: str, value: Any) -> None:
    message = refused(**{name: value})
    assert message.startswith(f"{name}: ")
    assert "hunter2" not in message


@pytest.mark.parametrize("name", ["tls_client_cert", "tls_client_key", "tls_ca_path"])
@pytest.mark.parametrize("value", ["/no/such/thing", "relative", "", "/etc/\n", 1, "/" + "x" * 5000])
def test_file_that_cannot_be_read(name: str, value: Any) -> None:
    assert refused(**{name: value}).startswith(f"{name}: ")


def test_file_where_a_directory_belongs_and_the_other_way_round() -> None:
    assert "no directory there" in refused(tls_ca_path="/etc/passwd")
    assert "no file there" in refused(tls_client_cert="/etc")


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("authmethod", 31),
        ("tcp_keepalive", 1),
        ("tcp_ka_idle", 86_400),
        ("tcp_ka_interval", 86_400),
        ("follow_redirect", 1),
        ("http_version", 3),
        ("verbose", 1),
    ],
)
def test_bounds_of_integers(name: str, most: int) -> None:
    least = 1 if name == "authmethod" else 0
    for value in (least, most):
        assert given_(**{name: value})[SHAPE] == rpc.pack({name: value})
    for wrong in (least - 1, most + 1, True, "1", 1.0, [1]):
        assert refused(**{name: wrong}).startswith(f"{name}: ")


def test_all_resets_and_nothing_else() -> None:
    assert refused(all=1).startswith("all: ")


@pytest.mark.parametrize("name", KEYS)
def test_nil_is_the_default(name: str) -> None:
    found, default = given_(**{name: None}), parse([URL])
    assert found[:SHAPE] == default[:SHAPE]


def test_method_makes_the_shape() -> None:
    assert given_(method="PUT")[SHAPE] == given_(method="PUT", body=b"x", timeout=5)[SHAPE]
    assert given_(method="PUT")[SHAPE] != given_(method="PATCH")[SHAPE]


@pytest.mark.parametrize("timeout", [1, 500, TIMEOUT_MAX])
def test_timeout(timeout: int) -> None:
    assert given_(timeout=timeout)[TIMEOUT] == timeout


@pytest.mark.parametrize("suspend", [0, 1, True, False])
def test_suspend(suspend: int) -> None:
    found = given_(suspend=suspend)[SUSPEND]
    assert (type(found), found) == (int, suspend)


@pytest.mark.parametrize("method", ["GET", "POST", "M-SEARCH", "purge", "!#$%&'*+-.^_`|~9"])
def test_method(method: str) -> None:
    assert given_(method=method)[SHAPE] == rpc.pack({"method": method})


@pytest.mark.parametrize(
    "line",
    ["X-Foo: bar", "X-Foo:bar", "Accept:", "X-Empty;", "X-Umlaut: grün", "X: a:b;c", "X:  two  blanks ", "a: é€😀"],
)
def test_header(line: str) -> None:
    assert given_(hdr=[line])[HDR] == [line]


def test_no_headers() -> None:
    assert given_(hdr=[])[HDR] == []


@pytest.mark.parametrize("body", [b"", b"\x00", "", "grün", "\udcff"])
def test_body(body: bytes | str) -> None:
    assert given_(body=body)[BODY] == body


@pytest.mark.parametrize("xdata", [0, "", [], {"a": b"\x00"}, "two\nlines", True, 1.5])
def test_xdata_is_packed_as_it_is(xdata: Any) -> None:
    assert given_(xdata=xdata)[XDATA] == rpc.pack(xdata)


def test_xdata_that_cannot_travel_back() -> None:
    deep: list[Any] = []
    for _ in range(1100):
        deep = [deep]
    assert refused(xdata=deep).startswith("xdata: ")


def test_longest_url_and_route() -> None:
    url = "http://h/".ljust(query.URL_MAX, "x")
    assert parse([url])[0] == url
    assert str(query.URL_MAX) in refused(url + "x")
    assert given_(route="R" * query.ROUTE_MAX)[ROUTE] == "R" * query.ROUTE_MAX
    assert str(query.ROUTE_MAX) in refused(route="R" * (query.ROUTE_MAX + 1))


def test_head_with_a_body_is_refused() -> None:
    assert refused(method="HEAD", body=b"x").startswith("body: ")
    assert given_(method="HEAD", body=None)[BODY] is None


# -- what is wrong


@pytest.mark.parametrize("timeout", [0, -1, TIMEOUT_MAX + 1, 2**64, True, False, 1.5, 1.0, "1", b"1", [1], {}])
def test_wrong_timeout(timeout: Any) -> None:
    message = refused(timeout=timeout)
    assert message.startswith("timeout: ")
    assert str(TIMEOUT_MAX) in message


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, wrong in WRONG.items() for value in wrong],
)
def test_wrong_value_names_its_option(name: str, value: Any) -> None:
    assert refused(**{name: value}).startswith(f"{name}: ")


@pytest.mark.parametrize("byte", CONTROL)
def test_header_injection(byte: str) -> None:
    """A line break in a header would be one more header, or the next request."""
    for line in (f"X: a{byte}b", f"X: {byte}", f"X:{byte}b", f"X{byte}: b", f"{byte}X: b", f"X: b{byte}", f"X;{byte}"):
        assert refused(hdr=["A: b", line]).startswith("hdr: ")


@pytest.mark.parametrize(
    "name", ["Content-Length", "content-length", "CONTENT-LENGTH", "Transfer-Encoding", "tRANSFER-eNCODING"]
)
@pytest.mark.parametrize("rest", [": 5", ":", ";", ": chunked"])
def test_framing_is_not_for_callers(name: str, rest: str) -> None:
    message = refused(hdr=[name + rest])
    assert message.startswith(f"hdr: {name} ")


@given(st.text(max_size=30) | st.from_regex(r"[A-Za-z-]{1,8}[:;][^\x00]{0,20}", fullmatch=True))
@settings(PROPERTY, max_examples=500)
def test_accepted_headers_hold_no_control_bytes(line: str) -> None:
    try:
        given_(hdr=[line])
    except BadRequest:
        return
    data = line.encode()  # a lone surrogate would raise
    assert not [byte for byte in data if byte < 0x20 or byte == 0x7F]
    assert re.match(rb"[!-9;-~]+:|[!-~]+;$", data)


def test_unknown_option_is_named() -> None:
    message = refused(tiemout=100)
    assert "'tiemout'" in message
    assert all(name in message for name in KEYS)


@pytest.mark.parametrize("name", [b"timeout", 1, None, "", "Timeout", "a\nb", "x" * 1000, ("t",)])
def test_unknown_options_of_any_kind(name: Any) -> None:
    assert "unknown" in refused(URL, {name: 1})


@pytest.mark.parametrize(
    "params", [[], None, "http://x/", {}, [URL, {}, 1], [URL, None], [URL, []], [URL, "R"], 5, (URL,), {"url": URL}]
)
def test_wrong_params(params: Any) -> None:
    with pytest.raises(BadRequest, match=r"params: \[url\]|options: a map"):
        parse(params)


@given(st.recursive(st.none() | st.text() | st.integers(-9, 9) | st.binary(), lambda x: st.lists(x, max_size=3)))
@PROPERTY
def test_whatever_the_params_are(params: Any) -> None:
    for value in (params, [URL, params], [params], *([URL, {name: params}] for name in KEYS)):
        with suppress(BadRequest):
            parse(value)


# -- secrets


@pytest.mark.parametrize(
    "hdr",
    [
        pytest.param(["Authorization: Bearer hunter2\n"], id="control byte"),
        pytest.param(["Authorization : Bearer hunter2"], id="blank in the name"),
        pytest.param(["Authorization Bearer hunter2"], id="no colon"),
        pytest.param("Authorization: Bearer hunter2", id="text and no list"),
        pytest.param({"Authorization": "Bearer hunter2"}, id="a map and no list"),
        pytest.param(b"Authorization: Bearer hunter2", id="bytes and no list"),
        pytest.param([b"Authorization: Bearer hunter2"], id="bytes"),
        pytest.param([["Authorization", "Bearer hunter2"]], id="a pair"),
        pytest.param([{"Authorization": "Bearer hunter2"}], id="a list of maps"),
        pytest.param(["Authorization Bearer hunter2: x"], id="a colon behind"),
        pytest.param(["Authorization\thunter2: x"], id="a tab"),
        pytest.param([" hunter2: x"], id="a blank before"),
    ],
)
def test_value_of_a_header_is_in_no_message(hdr: Any) -> None:
    assert "hunter2" not in refused(hdr=hdr)


def test_body_is_in_no_message() -> None:
    assert "hunter2" not in refused(body=["hunter2"])


@pytest.mark.parametrize(
    "url",
    [
        "http://bob:hunter2@/",
        "http://bob:hunter2@ host/",
        "ftp://bob:hunter2@host/",
        "bob:hunter2@host/",
        "http://bob:hunter2@host/\n",
    ],
)
def test_password_of_a_url_is_in_no_message(url: str) -> None:
    assert "hunter2" not in refused(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://bob:hunter2@host/x", "http://host/x"),
        ("http://bob@host", "http://host"),
        ("https://bob:p:w@[::1]:8/?a@b", "https://[::1]:8/?a@b"),
        ("http://host/x", "http://host/x"),
        ("http://host/x@y", "http://host/x@y"),
        ("http://host?mail=a@b", "http://host?mail=a@b"),
        ("http://host#a@b", "http://host#a@b"),
        ("http://host//a@b", "http://host//a@b"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown


# -- URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "scheme '' is wrong"),
        ("host/path", "scheme '' is wrong"),
        ("ftp://host/", "scheme 'ftp' is wrong"),
        ("file:///etc/passwd", "scheme 'file' is wrong"),
        ("gopher://h/", "scheme 'gopher' is wrong"),
        ("httpx://h/", "scheme 'httpx' is wrong"),
        ("http:/h/", "no host"),
        ("http:h", "no host"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://?query", "no host"),
        ("http://#fragment", "no host"),
        ("http://user@", "no host"),
        ("http://user:password@/", "no host"),
        ("http://user:password@?x", "no host"),
        ("http://a@b@c/", "no host"),
        (" http://h/", "character at 0"),
        ("http://h/a b", "character at 10"),
        ("http://h/\u00a0", "character at 9"),
        ("http://h/\u2028", "character at 9"),
        ("http://h/\udcff", "character at 9"),
        (b"http://h/", "url: a bytes is wrong"),
        (None, "url: a NoneType is wrong"),
        (1, "url: a int is wrong"),
        (["http://h/"], "url: a list is wrong"),
    ],
)
def test_bad_url(url: Any, message: str) -> None:
    found = refused(url)
    assert found.startswith("url: ")
    assert message in found


@pytest.mark.parametrize("byte", [*CONTROL, *map(chr, range(0x80, 0xA0))])
def test_control_bytes_in_a_url(byte: str) -> None:
    for url in (f"http://h/{byte}", f"http://h{byte}/", f"{byte}http://h/", f"http://h/?a={byte}b", f"htt{byte}p://h/"):
        assert refused(url).startswith("url: ")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://host/", "http://host"),
        ("http://host", "http://host"),
        ("https://host:8443/a/b", "https://host:8443"),
        ("http://user:pass@host:81/x", "http://host:81"),
        ("http://user@host", "http://host"),
        ("http://:@host/", "http://host"),
        ("http://host?a=b/c", "http://host"),
        ("http://host?a=b@c/", "http://host"),
        ("http://host#f@g/", "http://host"),
        ("http://host/a@b", "http://host"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
        ("http://user@[fe80::1%25eth0]/", "http://[fe80::1%25eth0]"),
        ("http://h", "http://h"),
        ("https://h", "https://h"),
        ("http://grün.example/ü", "http://grün.example"),
        ("HTTP://Host/", "HTTP://Host"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    for _ in range(2):  # the second time, it may come from the cache
        assert parse([url])[:2] == (url, origin)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:808", "http://127.0.0.1:80x", "http://127.0.0.1:80?", "http://127.0.0.1:80@"]
)
def test_origin_is_not_that_of_a_shorter_url(url: str) -> None:
    parse(["http://127.0.0.1:80/"])
    try:
        origin = parse([url])[ORIGIN]
    except BadRequest:
        return
    assert origin == url.rstrip("?")


def test_origins_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_ORIGINS", {})
    for number in range(query.ORIGINS_MAX + 10):
        assert parse([f"http://host-{number}/"])[ORIGIN] == f"http://host-{number}"
        assert len(query._ORIGINS) <= query.ORIGINS_MAX


def test_urls_without_a_slash_do_not_fill_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_ORIGINS", {})
    for number in range(100):
        parse([f"http://user-{number}@host/"])
        parse([f"http://host?{number}"])
    assert len(query._ORIGINS) <= 1


url_texts = st.text(max_size=40) | st.builds(
    "".join,
    st.lists(
        st.sampled_from(["http", "https", ":", "//", "/", "@", "?", "#", "h", " ", "\n", "[::1]", "%", "\\", "é"])
    ),
)


@given(url_texts)
@settings(PROPERTY, max_examples=1000)
def test_any_text_as_url(url: str) -> None:
    try:
        found, origin, *_ = parse([url])
    except BadRequest:
        return
    assert found == url
    assert re.match(r"https?://[^/?#]", url, re.I)
    assert not [letter for letter in url if letter <= " " or letter == "\x7f"]
    assert re.fullmatch(r"https?://[^/?#@]+", origin, re.I)
    assert origin.split("//")[1] in url
