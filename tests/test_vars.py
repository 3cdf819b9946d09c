"""The option `vars`: what it may be, what it expands, and what it may not bring into a query."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from hacd import Client, Refused, expansion
from hacd.errors import BadRequest
from hacd.query import KEYS, URL_MAX, parse
from tests.conftest import StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import Httpbin, answer

URL = "http://127.0.0.1:8080/test.php?r_uri=$rU"

#: places in a query
HDR, BODY = 6, 7


def refused(url: str = URL, **options: Any) -> str:
    """The one line that says why."""
    with pytest.raises(BadRequest) as caught:
        parse([url, options])
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    return caught.value.message


def expanded(url: str, **variables: Any) -> str:
    return parse([url, {"vars": variables}])[0]


# -- what it may be


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("alice", "alice"),
        (7, "7"),
        (-(2**63), str(-(2**63))),
        (2**64 - 1, str(2**64 - 1)),
        (0.5, "0.5"),
        (True, "1"),
        (False, "0"),
        (b"bytes", "bytes"),
        (None, ""),
        ("", ""),
    ],
)
def test_values(value: Any, text: str) -> None:
    assert expanded(URL, rU=value) == URL.replace("$rU", text)


@pytest.mark.parametrize("value", [[], {}, (), object()])
def test_wrong_values(value: Any) -> None:
    assert refused(vars={"rU": value}).startswith(f"vars: rU: a {type(value).__name__} is wrong: ")


@pytest.mark.parametrize("value", [[], "rU=alice", 1, True, b"", ("rU", "alice")])
def test_wrong_vars(value: Any) -> None:
    assert refused(vars=value).startswith(f"vars: a {type(value).__name__} is wrong: a map ")


@pytest.mark.parametrize("name", ["", "a-b", "1a", "a b", "grün", "$rU", "a\n", "x" * 65, 1, b"rU", None])
def test_wrong_names(name: Any) -> None:
    assert refused(vars={name: "x"}).startswith("vars: the name ")


@pytest.mark.parametrize("name", ["null", "http_rs", "http_query_id", "http_anything"])
def test_names_that_are_hacds_own(name: str) -> None:
    assert refused(vars={name: "x"}) == f"vars: {name} is a name of hacd's own: another would be right"


def test_bounds_of_vars() -> None:
    most = {f"v{number}": number for number in range(expansion.VARS_MAX)}
    assert expanded(URL, **most)
    assert str(expansion.VARS_MAX) in refused(vars={**most, "more": 1})
    body = parse([URL, {"vars": {"a": "x" * expansion.VALUE_MAX}, "body": "$a"}])[BODY]
    assert body == b"x" * expansion.VALUE_MAX
    for value in ("x" * (expansion.VALUE_MAX + 1), b"x" * (expansion.VALUE_MAX + 1)):
        assert refused(vars={"a": value}).startswith("vars: a: ")
    for number in (2**64, -(2**63) - 1):
        assert refused(vars={"a": number}).startswith("vars: a: ")


@pytest.mark.parametrize("value", ["hunter2" * 10_000, ["hunter2"], {"hunter2": "hunter2"}, b"hunter2" * 10_000])
def test_no_value_is_in_a_message(value: Any) -> None:
    assert "hunter2" not in refused(vars={"secret": value})


# -- what it expands


def test_nothing_without_vars() -> None:
    for options in ({}, {"vars": None}):
        query = parse([URL, {"hdr": ["X: $rU $$ $("], "body": b"$rU$", **options}])
        assert (query[0], query[HDR], query[BODY]) == (URL, ["X: $rU $$ $("], b"$rU$")


def test_url_headers_and_body() -> None:
    options = {
        "vars": {"rU": "alice", "fU": "bob", "raw": b"\x00\xff"},
        "hdr": ["X-From: $fU", "X-Plain: 1", "X-Both: $(rU)$fU$$", "X-None: $tU"],
        "body": "{'r_uri':'$rU', 'raw':'$raw', 'ü':'$$'}",
    }
    query = parse([URL + "&f_uri=$fU", options])
    assert query[0] == "http://127.0.0.1:8080/test.php?r_uri=alice&f_uri=bob"
    assert query[HDR] == ["X-From: bob", "X-Plain: 1", "X-Both: alicebob$", "X-None: "]
    assert query[BODY] == b"{'r_uri':'alice', 'raw':'" + b"\x00\xff" + "', 'ü':'$'}".encode()


def test_what_has_no_dollar_is_left_as_it_is() -> None:
    query = parse(["http://h/", {"vars": {}, "body": "grün", "hdr": ["X: y"]}])
    assert (query[BODY], query[HDR]) == ("grün", ["X: y"])


def test_whole_url_from_variables() -> None:
    url = expanded("$scheme://$host:$port/$path", scheme="http", host="127.0.0.1", port=8080, path="x")
    assert url == "http://127.0.0.1:8080/x"


def test_escape_for_a_query_string() -> None:
    assert (
        expanded("http://h/?u=$(rU{s.escape.param})&f=1", rU="a&b=c d\r\n#") == "http://h/?u=a%26b%3Dc%20d%0D%0A%23&f=1"
    )


def test_http_req_is_this_query() -> None:
    options = {
        "vars": {},
        "timeout": 100,
        "route": "R",
        "method": "PUT",
        "username": "alice",
        "password": "hunter2",
        "hdr": ["X-A: 1", "X-B: $http_req(timeout)", "X-C: <$http_req(password)>"],
        "body": "$http_req(method) $http_req(route) $(http_req(hdr)[0]) $(http_req(hdr)[-2]) $(http_req(hdr)[9])",
    }
    query = parse(["http://h/$http_req(username)/$http_req(follow_redirect)", options])
    assert query[0] == "http://h/alice/"
    assert query[HDR] == ["X-A: 1", "X-B: 100", "X-C: <>"]
    assert query[BODY] == b"PUT R X-A: 1 X-B: $http_req(timeout) "  # as the query gave it


@pytest.mark.parametrize("key", KEYS)
def test_http_req_of_what_was_not_given(key: str) -> None:
    assert expanded(f"http://h/<$http_req({key})>") == "http://h/<>"


def test_http_req_of_a_key_that_there_is_not() -> None:
    message = refused("http://h/$http_req(tiemout)", vars={})
    assert message.startswith("url: $http_req: 'tiemout' is no key of it; there are: ")


@pytest.mark.parametrize(
    "name", ["ok", "err", "rs", "rr", "hdr(Via)", "mb", "ml", "rb", "bs", "time(total)", "xdata", "req_id"]
)
def test_there_is_no_reply_yet(name: str) -> None:
    assert expanded(f"http://h/<$http_{name}>") == "http://h/<>"


# -- what it may not bring


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("a\nb", "a control byte"),
        ("a\x00", "a control byte"),
        ("\x7f", "a control byte"),
        ("a b", "a blank"),
        (b"\xff", "a byte that is no UTF-8"),
        ("\u2028", "a character that does not print"),
    ],
)
def test_what_a_value_may_not_put_into_a_url(value: Any, what: str) -> None:
    place = len("http://h/?a=1&u=") + len(re.split(r"[^a]", value)[0] if isinstance(value, str) else "")
    message = refused("http://h/?a=$a&u=$rU", vars={"rU": value, "a": 1})
    assert message == f"url: $rU puts {what} at {place}: $(name{{s.escape.param}}) would encode it"
    assert expanded("http://h/?u=$(rU{s.escape.param})", rU=value)


@pytest.mark.parametrize("byte", [*map(chr, range(0x20)), "\x7f", "\udcff"])
def test_what_a_value_may_not_put_into_a_header(byte: str) -> None:
    for value in (f"a{byte}", f"{byte}Evil: 1", byte):
        message = refused("http://h/", vars={"v": value}, hdr=["X: $$", "X-Foo: $v"])
        assert message.startswith("hdr: 'X-Foo': $v puts a ")
        assert "Evil" not in message


def test_what_the_text_itself_has_wrong() -> None:
    assert refused("http://h/ $rU", vars={"rU": "x"}).startswith("url: the character at 9 is wrong")
    assert refused("http://h/", vars={}, hdr=["X-Foo: a\n$$"]).startswith("hdr: 'X-Foo' is wrong")


def test_a_blank_is_right_in_a_header() -> None:
    assert parse(["http://h/", {"vars": {"v": "a b é"}, "hdr": ["X: $v"]}])[HDR] == ["X: a b é"]


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_framing_is_not_for_variables(name: str) -> None:
    assert "is not for a caller to set" in refused("http://h/", vars={"v": name}, hdr=["$v: 5"])
    assert "is not for a caller to set" in refused("http://h/", vars={"v": f"{name}: 5"}, hdr=["$v"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("$v: x", "hunter2 x"), ("$v", "hunter2"), ("X-$v: x", "(hunter2)"), ("$v", " hunter2: x"), ("$v", "")],
)
def test_a_value_that_makes_no_header_is_not_repeated(text: str, value: str) -> None:
    message = refused("http://h/", vars={"v": value}, hdr=[text])
    assert message.startswith("hdr")
    assert "hunter2" not in message


def test_a_whole_header_of_a_variable() -> None:
    assert parse(["http://h/", {"vars": {"v": "X-Foo: bar"}, "hdr": ["$v"]}])[HDR] == ["X-Foo: bar"]


@pytest.mark.parametrize("value", ["ftp://bob:hunter2@h/", "hunter2://h/", "hunter2", ""])
def test_a_value_that_makes_no_url_is_not_repeated(value: str) -> None:
    assert refused("$v", vars={"v": value}) == "url: its variables make no http:// or https:// of its begin"


@pytest.mark.parametrize(
    ("options", "begin"),
    [
        ({"url": "http://h/$"}, "url: $ at 9: a name or $( would be right; $$ for a dollar"),
        ({"url": "http://h/$http_reqid"}, "url: $http_reqid at 9: there is no such variable; did you mean http_req_id"),
        ({"hdr": ["A: b", "X-Foo: 5$"]}, "hdr: 'X-Foo': $ at 8: a name"),
        ({"hdr": ["hunter2 $"]}, "hdr: $ at 8: a name"),
        ({"body": b"\xff$"}, "body: $ at 1: a name"),
        ({"body": "$(rU"}, "body: $( at 0: "),
    ],
)
def test_wrong_texts_are_named(options: dict[str, Any], begin: str) -> None:
    url = options.pop("url", "http://h/")
    message = refused(url, vars={}, **options)
    assert message.startswith(begin)
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "options", [{"hdr": 5}, {"hdr": "X: $v"}, {"hdr": [5]}, {"hdr": [b"$v"]}, {"body": 5}, {"body": ["$v"]}]
)
def test_wrong_types_are_refused_as_ever(options: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(["http://h/", dict(options)])
    assert refused("http://h/", vars={"v": 1}, **options) == caught.value.message


@pytest.mark.parametrize("url", [5, None, b"http://h/$v", ["$v"]])
def test_a_url_of_another_type(url: Any) -> None:
    assert refused(url, vars={"v": 1}).startswith("url: a ")


# -- bounds of what comes out


def test_url_that_grows_too_long() -> None:
    url = "http://h/$v"
    assert len(expanded(url, v="x" * (URL_MAX - 9))) == URL_MAX
    assert (
        refused(url, vars={"v": "x" * (URL_MAX - 8)})
        == f"url: {URL_MAX + 1} characters are too many: at most {URL_MAX} would be right"
    )


def test_a_long_template_may_make_a_short_url() -> None:
    assert expanded("http://h/" + "$(http_req(tls_client_cert))" * 1000 + "$$" * 24) == "http://h/" + "$" * 24


@pytest.mark.parametrize("where", ["url", "hdr", "body"])
def test_a_bomb_is_refused(where: str) -> None:
    text = "$v" * 1000
    options: dict[str, Any] = {"vars": {"v": "x" * 60_000}}
    url = "http://h/" + (text if where == "url" else "")
    if where == "hdr":
        options["hdr"] = [f"X: {text}"]
    if where == "body":
        options["body"] = text
    message = refused(url, **options)
    assert message.startswith(where)
    assert f"60000000 {'bytes' if where == 'body' else 'characters'}: at most {expansion.EXPANDED_MAX} " in message


ESCAPE = "{s.escape.param}"
LONG = "\u00e9" * 4_000_000
SPOTTED = "a/" * (expansion.EXPANDED_MAX // 2)
MANY = "".join(f"$(http_req(xdata)[{number}]{ESCAPE})" for number in range(200))


@pytest.mark.parametrize(
    "options",
    [
        {"hdr": [f"X: $(http_req(body){ESCAPE})"], "body": LONG},
        {"hdr": [f"X: $(http_req(body){ESCAPE})"], "body": LONG.encode()},
        {"hdr": ["X: y"], "body": f"$(http_req(xdata){ESCAPE})", "xdata": [LONG]},
        {"hdr": ["X: $(http_req(xdata)[0])", "X: $(http_req(xdata))"], "xdata": [{b"k": [["a"] * 500] * 10_000}]},
        {"hdr": [f"X: $(v{4 * ESCAPE})"] * 256, "vars": {"v": LONG[: expansion.VALUE_MAX]}},
        {"hdr": ["X: " + MANY], "xdata": [SPOTTED] * 200},
        {"body": MANY, "xdata": [SPOTTED] * 200},
        {"body": MANY.replace(ESCAPE, ""), "xdata": [[["a"] * 250] * 400 + [{b"k": 1}]] * 200},
    ],
    ids=["text", "bytes", "in a body", "JSON", "a variable", "many", "many in a body", "much JSON that is null"],
)
def test_what_is_too_long_is_not_transformed(options: dict[str, Any]) -> None:
    """It took up to a minute, in which the front served nobody."""
    begin = time.monotonic()
    with pytest.raises(BadRequest, match=r"262144 .*would be right"):
        parse([URL, {"vars": {}, **options}])
    assert time.monotonic() - begin < 1


def test_json_is_made_once() -> None:
    """Of what JSON has no form for, which is null and takes no place: there it was made for each header."""
    xdata = {"a": [["a"] * 250] * 400, b"k": 1}
    begin = time.monotonic()
    query = parse([URL, {"vars": {}, "xdata": xdata, "hdr": ["X: $(http_req(xdata))$(http_req(xdata)[0])"] * 256}])
    assert query[6] == ["X: "] * 256
    assert time.monotonic() - begin < 1


def test_the_bounds_are_of_the_whole_query() -> None:
    value = "x" * 1000
    lines = ["X: $v"] * 250
    parse(["http://h/$v", {"vars": {"v": value}, "hdr": lines, "body": "$v"}])
    left = expansion.EXPANDED_MAX - 251 * len(value)
    message = refused("http://h/$v", vars={"v": value}, hdr=lines, body="$v" * 12)
    assert message == f"body: its variables make 12000 bytes: at most {left} would be right"
    assert refused("http://h/", vars={}, hdr=["X: $a$a"] * 256, body="$$" * 513).startswith("body: more than 1024")
    assert refused("http://h/", vars={}, hdr=["X: $a$a$a$a$a"] * 256).startswith("hdr: 'X': more than 1024")


# -- through a daemon


def test_url_header_and_body_reach_the_origin(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(
        f"{httpbin.url}/anything?r_uri=$rU&f_uri=$(fU{{s.escape.param}})&d=$$&n=$tU",
        vars={"rU": "alice", "fU": "b&o b", "raw": "grün"},
        hdr=["X-Foo: <$rU>", "Content-Type: text/plain"],
        body="$raw $$ <$null>",
    )
    seen = json.loads(reply.rb)
    assert seen["args"] == {"r_uri": "alice", "f_uri": "b&o b", "d": "$", "n": ""}
    assert seen["headers"]["X-Foo"] == "<alice>"
    assert seen["data"] == "grün $ <>"
    assert reply.pv("$http_rs $(http_hdr(content-type))") == "200 application/json"


def test_without_vars_a_dollar_is_a_dollar(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    assert client.query(f"{origin.url}/?u=$rU&$$", hdr=["X-Foo: $rU $$ $("]).ok == 1
    assert origin.heads[0].startswith(b"GET /?u=$rU&$$ HTTP/1.1\r\n")
    assert b"X-Foo: $rU $$ $(\r\n" in origin.heads[0]


def test_control_bytes_reach_no_origin(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with pytest.raises(Refused, match=r"url: \$rU puts a control byte at "):
        client.query(f"{origin.url}/?u=$rU", vars={"rU": "x\r\nEvil:1"})
    with pytest.raises(Refused, match=r"hdr: 'X-Foo': \$rU puts a control byte at 8"):
        client.query(origin.url, vars={"rU": "x\r\nEvil: 1"}, hdr=["X-Foo: $rU"])
    assert client.query(f"{origin.url}/?u=$rU", vars={"rU": "x"}).ok == 1
    assert [head.split(b"\r\n")[0] for head in origin.heads] == [b"GET /?u=x HTTP/1.1"]


def test_bytes_of_a_variable_are_a_body_as_they_are(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(
        f"{httpbin.url}/anything", vars={"raw": b"\x00\xff"}, body=b"<$raw>", hdr=["Content-Type: x/y"]
    )
    assert json.loads(reply.rb)["data"] == "data:application/octet-stream;base64,PAD/Pg=="


def test_send_and_query_many_expand_too(client: Client, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    items = [(f"{origin.url}/$n", {"vars": {"n": number}}) for number in range(5)]
    assert sorted(reply.url for reply in client.query_many(items)) == [f"{origin.url}/{number}" for number in range(5)]
    assert client.send(f"{origin.url}/$n", vars={"n": "sent"})
    assert any(b"/4 " in head for head in origin.heads)


def run(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hacd", "query", "--socket", daemon.socket, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_var_of_the_shell(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    done = run(daemon, "--var", "rU=alice", "--var", "q=a=b", "-H", "X-Foo: $q", f"{origin.url}/$rU")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok", "")
    assert origin.heads[0].startswith(b"GET /alice HTTP/1.1\r\n")
    assert b"X-Foo: a=b\r\n" in origin.heads[0]


@pytest.mark.parametrize("assignment", ["rU", "=x", ""])
def test_wrong_var_of_the_shell(daemon: Daemon, nobody: str, assignment: str) -> None:
    done = run(daemon, "--var", assignment, nobody)
    assert (done.returncode, done.stdout) == (2, "")
    assert "NAME=VALUE would be right" in done.stderr
    assert len(done.stderr.splitlines()) == 1
