"""The daemon's own routes: entered by `run`, suspended by queries, resumed with replies."""

from __future__ import annotations

from typing import Any

import pycurl
import pytest

from hacd import Client, Refused
from tests.conftest import StartOrigin, StartRoutes
from tests.support.daemon import Daemon
from tests.support.origins import Httpbin, Nginx
from tests.support.routes import write_routes
from tests.support.waiting import wait_for
from tests.support.wire import Wire

HAS_NTLM = bool(pycurl.version_info()[4] & pycurl.VERSION_NTLM)

# -- the contract's example, word for word but for the origin

CONTRACT = """
@route("REQUEST")                             # a caller enters it with run("REQUEST", {"rU": "alice", "fU": "bob"})
def request(tx):
    tx.http_req["timeout"] = TIMEOUT
    tx.http_req["hdr"] = "X-Foo: bar"         # each assignment adds one; None removes
    return tx.http_async_query("ORIGIN?r_uri=$rU&f_uri=$fU", "HTTP_REPLY")

@route("HTTP_REPLY")
def http_reply(tx):
    if tx.pv("$http_ok"):
        tx.reply({"status": tx.pv("$http_rs"), "body": tx.pv("$http_rb")})
    else:
        tx.log("error $http_err")
        tx.reply({"error": tx.pv("$http_err")})

@route("LOOKUP")                              # the same in a straight line
async def lookup(tx):
    first = await tx.query("ORIGIN?u=$rU")
    second = await tx.query("ORIGIN", body=first.rb)
    return {"status": second.rs}
"""


def test_the_example_of_the_docs(routes: StartRoutes, httpbin: Httpbin) -> None:
    daemon = routes(CONTRACT.replace("TIMEOUT", "10_000"), f"{httpbin.url}/anything")
    with daemon.client() as client:
        result = client.run("REQUEST", {"rU": "alice", "fU": "bob"})
        assert result["status"] == 200
        assert b'"f_uri": "bob"' in result["body"]
        assert b'"X-Foo": "bar"' in result["body"]
        assert client.run("LOOKUP", {"rU": "alice"}) == {"status": 200}


def test_an_error_resumes_the_route_too(routes: StartRoutes, nobody: str) -> None:
    daemon = routes(CONTRACT.replace("TIMEOUT", "10_000"), nobody)
    with daemon.client() as client:
        result = client.run("REQUEST", {"rU": "alice"})
    assert list(result) == ["error"]
    assert f"route HTTP_REPLY: error {result['error']}" in daemon.log


def test_a_timeout_resumes_the_route_too(routes: StartRoutes, start_origin: StartOrigin) -> None:
    daemon = routes(CONTRACT.replace("TIMEOUT", "50"), start_origin(lambda _sock, _head: None).url)
    with daemon.client() as client:
        assert client.run("REQUEST", {})["error"].startswith("Operation timed out after ")
    stats = daemon.wait_idle()
    assert (stats["requests"], stats["timeouts"], stats["in_routes"]) == (1, 1, 0)


# -- what the functions return, as in the manual


def test_return_values(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        seen = []

        @route("R")
        def r(tx):
            seen.append(tx.http_async_query("ftp://x/", "BACK"))
            seen.append(tx.pv("$http_err"))
            tx.http_req["suspend"] = 0
            seen.append(tx.http_async_query("ORIGIN", "BACK"))
            sent = tx.pv("$http_req_id")
            seen.append(tx.pv("$http_err"))
            seen.append(tx.http_async_send("ORIGIN", "BACK"))
            seen.append(tx.http_async_send_xdata("ORIGIN", "BACK", {"a": [1]}))
            seen.append(tx.http_async_query("ORIGIN", "BACK"))
            seen.append(tx.http_async_query("ORIGIN", "BACK"))
            seen.append(tx.pv("$http_err"))

        @route("BACK")
        def back(tx):
            if tx.transactional:
                tx.reply(seen)

        """,
        nginx.url,
    )
    with daemon.client() as client:
        seen = client.run("R")
    assert seen[0] == -1
    assert seen[1].startswith("url: scheme 'ftp' is wrong")
    assert seen[2:7] == [1, None, 1, 1, 0]
    assert seen[7:] == [-1, "the transaction is suspended: return once http_async_query gave 0"]
    assert daemon.wait_idle()["requests"] == 4


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("timeout", 0, "timeout: 0 is wrong"),
        ("timeout", "soon", "timeout: 'soon' is wrong"),
        ("hdr", "X\n: y", "hdr: "),
        ("hdr", 5, "hdr: an item of type int is wrong"),
        ("hdr", "Content-Length: 5", "hdr: Content-Length is not for a caller to set"),
        ("body", 7, "body: a int is wrong"),
        ("method", "GET /", "method: 'GET /' is wrong"),
        ("suspend", 2, "suspend: 2 is wrong"),
        ("authmethod", 32, "authmethod: 32 is wrong"),
        pytest.param(
            *("authmethod", 8, "authmethod: 8 (NTLM) is wrong: this libcurl has no NTLM"),
            marks=pytest.mark.skipif(HAS_NTLM, reason="this libcurl has NTLM"),
        ),
        ("username", 5, "username: it is wrong"),
        ("password", "a\nsecret", "password: it is wrong"),
        ("tls_client_cert", "/no/such", "tls_client_cert: '/no/such' is wrong"),
        ("tls_client_key", "x", "tls_client_key: 'x' is wrong"),
        ("tls_ca_path", "/etc/passwd", "tls_ca_path: '/etc/passwd' is wrong"),
        ("tcp_keepalive", 2, "tcp_keepalive: 2 is wrong"),
        ("tcp_ka_idle", -1, "tcp_ka_idle: -1 is wrong"),
        ("tcp_ka_interval", 1.5, "tcp_ka_interval: 1.5 is wrong"),
        ("follow_redirect", "1", "follow_redirect: '1' is wrong"),
        ("http_version", 4, "http_version: 4 is wrong"),
        ("all", 1, "all: 1 is wrong"),
        ("tymeout", 1, "option 'tymeout' is unknown"),
        ("vars", {}, "vars: tx.vars has them"),
    ],
)
def test_wrong_keys(keyed: Client, key: str, value: object, message: str) -> None:
    """-1, and `$http_err` names key and value, before anything is sent; the next query does not see it."""
    refused, after = keyed.run("KEY", {"key": key, "value": repr(value)})
    assert refused[0] == -1
    assert message in refused[1]
    assert "secret" not in refused[1]
    assert after == [1, None]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, nginx: Nginx) -> Any:
    text = """
    @route("KEY")
    def key(tx):
        tx.http_req[tx.vars["key"]] = eval(tx.vars["value"])
        refused = [tx.http_async_query("ORIGIN", "BACK"), tx.pv("$http_err")]
        sent = [tx.http_async_send("ORIGIN", "BACK"), tx.pv("$http_err")]
        tx.reply([refused, sent])

    @route("BACK")
    def back(tx):
        pass
    """
    directory = tmp_path_factory.mktemp("keyed")
    daemon = Daemon(directory, routes=write_routes(directory, text, nginx.url)).wait_ready()
    with daemon.client() as client:
        yield client
    daemon.close()


def test_http_req(routes: StartRoutes, httpbin: Httpbin) -> None:
    daemon = routes(
        """
        @route("R")
        def r(tx):
            tx.http_req["method"] = "DELETE"
            tx.http_req["all"] = None
            tx.http_req["hdr"] = "X-Gone: 1"
            tx.http_req["hdr"] = None
            tx.http_req["hdr"] = "X-Who: $rU"
            tx.http_req["hdr"] = ["X-Foo: a", "X-Foo: b"]
            tx.http_req["body"] = "{'r_uri':'$rU', 'cost': '$$5'}"
            tx.http_req["password"] = "secret"
            tx.vars["seen"] = [tx.pv("$http_req(body)"), tx.pv("$(http_req(hdr)[-1])"), tx.pv("$http_req(password)")]
            tx.http_async_query("ORIGIN/anything", "ONE")

        @route("ONE")
        def one(tx):
            tx.vars["one"] = json.loads(tx.pv("$http_rb"))
            tx.http_req["body"] = b"bytes stay as they are: $rU $"
            tx.http_req["method"] = "PUT"
            tx.http_async_query("ORIGIN/anything", "TWO")

        @route("TWO")
        def two(tx):
            tx.reply([tx.vars["seen"], tx.vars["one"], json.loads(tx.pv("$http_rb"))])
        """,
        httpbin.url,
    )
    with daemon.client() as client:
        seen, one, two = client.run("R", {"rU": "alice"})
    assert seen == ["{'r_uri':'$rU', 'cost': '$$5'}", "X-Foo: b", None]
    assert (one["method"], next(iter(one["form"]))) == ("POST", "{'r_uri':'alice', 'cost': '$5'}")
    assert (one["headers"]["X-Who"], one["headers"]["X-Foo"]) == ("alice", "a,b")
    assert "X-Gone" not in one["headers"]
    assert two["method"] == "PUT"
    assert next(iter(two["form"])) == "bytes stay as they are: $rU $"
    assert "X-Foo" not in two["headers"]


def test_chains_of_any_length(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        @route("STEP")
        def step(tx):
            tx.vars["left"] = tx.vars.get("left", 200) - 1
            if tx.vars["left"]:
                return tx.http_async_query("ORIGIN/?n=$left", "STEP")
            tx.reply(tx.pv("$http_rs"))
        """,
        nginx.url,
    )
    with daemon.client() as client:
        assert client.run("STEP") == 200
    assert daemon.wait_idle()["requests"] == 199


# -- async routes


def test_several_at_once(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        async def twice(tx, n):
            one = await tx.query("ORIGIN/?a=%d" % n)
            two = await tx.query("ORIGIN/?b=%d" % n)
            return [n, one.rs, two.rs]

        @route("ALL")
        async def all_(tx):
            replies = await tx.gather(*(tx.query("ORIGIN/?n=%d" % n, xdata=n) for n in range(20)))
            pairs = await tx.gather(twice(tx, 1), tx.query("ORIGIN"), twice(tx, 2), tx.gather())
            early = tx.query("ORIGIN", xdata="early")
            late = await tx.query("ORIGIN", xdata="late")
            early = await early
            return [[r.xdata for r in replies], pairs[0], pairs[1].rs, pairs[2], pairs[3], late.xdata, early.xdata,
                    tx.pv("$http_xdata")]
        """,
        nginx.url,
    )
    with daemon.client() as client:
        result = client.run("ALL")
    assert result == [list(range(20)), [1, 200, 200], 200, [2, 200, 200], [], "late", "early", "early"]


def test_async_errors(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        from hacd import Refused
        import asyncio

        async def fails(tx):
            await tx.query("ORIGIN")
            raise ValueError("from a gathered one")

        @route("REFUSED")
        async def refused(tx):
            try:
                await tx.query("ftp://x/")
            except Refused as error:
                return [error.code, error.message]

        @route("GATHERED")
        async def gathered(tx):
            one = tx.query("ORIGIN", xdata=1)
            try:
                await tx.gather(one, fails(tx))
            except ValueError as error:
                return [str(error), (await one).xdata]

        @route("FOREIGN")
        async def foreign(tx):
            try:
                await asyncio.sleep(0)
                await asyncio.get_event_loop_policy().new_event_loop().create_future()
            except RuntimeError as error:
                return str(error)

        @route("NOTHING")
        async def nothing(tx):
            tx.gather(5)
        """,
        nginx.url,
    )
    daemon.tolerate.add(" ERROR ")
    with daemon.client() as client:
        assert client.run("REFUSED")[0] == "bad_request"
        assert client.run("GATHERED") == ["from a gathered one", 1]
        assert client.run("FOREIGN").startswith("only tx.query")
        with pytest.raises(Refused, match="internal: route NOTHING raised TypeError"):
            client.run("NOTHING")


# -- replies


def test_without_a_reply_it_is_nil(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        @route("AT_ONCE")
        def at_once(tx):
            pass

        @route("LATER")
        def later(tx):
            return tx.http_async_query("ORIGIN", "AT_ONCE")

        @route("TWICE")
        def twice(tx):
            tx.reply([tx.reply(1), tx.reply(2)])

        @route("RETURNS")
        def returns(tx):
            return {"text": "grün", "bytes": b"\\0\\xff", "n": None}

        @route("GOES_ON")
        def goes_on(tx):
            tx.reply("early")
            tx.http_async_query("ORIGIN", "AFTER")

        @route("AFTER")
        def after(tx):
            tx.log("went on: $http_rs, $undefined, $5")
        """,
        nginx.url,
    )
    with daemon.client() as client:
        assert client.run("AT_ONCE") is None
        assert client.run("LATER") is None
        assert client.run("TWICE") == 1
        assert client.run("RETURNS") == {"text": "grün", "bytes": b"\0\xff", "n": None}
        assert client.run("GOES_ON") == "early"
    wait_for("the rest of it", lambda: "route AFTER: went on: 200, <null>, $5" in daemon.log)


def test_exceptions_end_their_transaction_and_nothing_else(
    routes: StartRoutes, nginx: Nginx, start_origin: StartOrigin
) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = routes(
        f"""
        import sys

        @route("RAISES")
        def raises(tx):
            tx.http_async_query("{silent.url}", "X")
            1 / 0

        @route("EXITS")
        def exits(tx):
            sys.exit(3)

        @route("LATER")
        def later(tx):
            tx.http_async_query("ORIGIN", "RAISES")

        @route("ASYNC")
        async def async_(tx):
            other = tx.query("{silent.url}")
            await tx.query("ORIGIN")
            {{}}["no such key"]

        @route("UNPACKABLE")
        def unpackable(tx):
            tx.reply(object())

        @route("X")
        def x(tx):
            tx.log("never")

        @route("OK")
        async def ok(tx):
            return (await tx.query("ORIGIN")).rs
        """,
        nginx.url,
    )
    daemon.tolerate.add(" ERROR ")
    front = daemon.pid("front")
    with daemon.client() as client:
        for name in ("RAISES", "EXITS", "LATER", "ASYNC", "UNPACKABLE"):
            with pytest.raises(Refused) as refused:
                client.run(name)
            assert refused.value.code == "internal"
        assert client.run("OK") == 200
    assert daemon.pid("front") == front
    stats = daemon.wait_idle()
    assert (stats["in_routes"], stats["in_flight"]) == (0, 0)
    path = daemon.log.split("route RAISES: ")[1].split(": ZeroDivisionError: division by zero\n")[0]
    assert path.endswith("routes.py:9")
    assert "route EXITS: " in daemon.log
    assert "SystemExit: 3" in daemon.log
    assert "KeyError: 'no such key'" in daemon.log
    assert "never" not in daemon.log


def test_none_outlives_transaction_timeout(routes: StartRoutes, start_origin: StartOrigin) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = routes(
        """
        @route("SYNC")
        def sync(tx):
            tx.http_async_query("ORIGIN", "SYNC")

        @route("ASYNC")
        async def async_(tx):
            try:
                while True:
                    await tx.query("ORIGIN", timeout=20)
            finally:
                tx.log("closed")
        """,
        silent.url,
        transaction_timeout=150,
    )
    with daemon.client() as client:
        for name in ("SYNC", "ASYNC"):
            with pytest.raises(Refused, match=rf"internal: route {name}: no end within transaction_timeout \(150 ms\)"):
                client.run(name)
    assert daemon.wait_idle()["in_routes"] == 0
    assert "route ASYNC: closed" in daemon.log


def test_a_route_that_holds_the_front_is_logged(routes: StartRoutes) -> None:
    daemon = routes(
        """
        import time

        @route("SLOW")
        def slow(tx):
            time.sleep(0.02)

        @route("FAST")
        def fast(tx):
            pass
        """,
        route_warn_ms=10,
    )
    with daemon.client() as client:
        client.run("FAST")
        client.run("SLOW")
    assert "route SLOW held the front for 2" in daemon.log
    assert "route FAST held" not in daemon.log


# -- unsuspended queries, and the transactions of nobody


def test_replies_of_unsuspended_queries_go_to_the_daemons_route_first(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        @route("MINE")
        def mine(tx):
            tx.log("resumed: $http_xdata $http_rs $rU $(http_hdr(Content-Length)[0]) $http_req_id")
            again = tx.http_async_query("ORIGIN", "NEXT")
            tx.log("again: %d" % again)

        @route("NEXT")
        async def next_(tx):
            tx.log("next: %s" % (await tx.query("ORIGIN")).rs)
        """,
        nginx.url,
    )
    with Wire(daemon.socket) as taker, Wire(daemon.socket) as sender:
        taker.call("register", [["MINE", "OTHER"]])
        sent = sender.call("send", [nginx.url, {"route": "MINE", "xdata": "x"}], 1)[1]["id"]
        wait_for("the route", lambda: f"route MINE: resumed: x 200 <null> 53 {sent}\n" in daemon.log)
        wait_for("its own query", lambda: "route MINE: again: 1\n" in daemon.log)
        wait_for("the next route", lambda: "route NEXT: next: 200\n" in daemon.log)
        sender.call("send", [nginx.url, {"route": "OTHER"}], 2)
        assert taker.receive()[2][0]["route"] == "OTHER"
        assert sender.call("query", [nginx.url, {"route": "MINE"}], 3)[1]["route"] == "MINE"


def test_a_route_sends_to_who_registered(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        @route("SENDS")
        def sends(tx):
            tx.reply([tx.http_async_send_xdata("ORIGIN", tx.vars["to"], 5), tx.pv("$http_req_id")])
        """,
        nginx.url,
    )
    with Wire(daemon.socket) as taker, Wire(daemon.socket) as caller:
        taker.call("register", [["ELSEWHERE"]])
        one, sent = caller.call("run", ["SENDS", {"to": "ELSEWHERE"}])[1]
        reply = taker.receive()[2][0]
        assert (one, reply["id"], reply["xdata"]) == (1, sent, 5)
        caller.call("run", ["SENDS", {"to": "NOBODY"}], 2)
        wait_for("nobody to take it", lambda: daemon.stats()["undelivered"] == 1)


def test_run_as_a_notification(routes: StartRoutes, nginx: Nginx) -> None:
    daemon = routes(
        """
        @route("R")
        def r(tx):
            tx.log("replied: %d" % tx.reply(1))
            tx.http_async_query("ORIGIN", "BACK")

        @route("BACK")
        def back(tx):
            tx.log("back: $http_rs")
        """,
        nginx.url,
    )
    with Wire(daemon.socket) as wire:
        wire.send([2, "run", ["R", {}]])
        wait_for("it to come back", lambda: "route BACK: back: 200" in daemon.log)
    assert "route R: replied: -1" in daemon.log
