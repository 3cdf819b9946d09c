"""What libcurl says of a transfer, in the log: whose, which lines, and without which."""

from __future__ import annotations

import base64
import os
import re
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pycurl
import pytest
import trustme

from hacd import Client, log
from hacd.log.entry import Entry
from hacd.worker.verbose import Verbose
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import Httpbin, RawOrigin, Server, answer, free_port, nginx_path
from tests.support.waiting import wait_for

BASIC, DIGEST = 1, 2

#: what may stand in no log; each comes in another way
PASSWORD, URL_PASSWORD, COOKIE, BEARER, KEY = "pw7Zq", "url7Zq", "cookie7Zq", "bearer7Zq", "key7Zq"
SET_COOKIE, FOLDED, NEXT_PASSWORD, TOKEN = "set7Zq", "folded7Zq", "next7Zq", "token7Zq"


def basic(user: str, password: str) -> str:
    """A Basic login as it stands in a header."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def lines_of(daemon: Daemon, id_: str) -> list[str]:
    """The texts that are logged about a query."""
    return re.findall(rf"INFO hacd: worker \d+\[\d+\] {id_}: (.*)", daemon.log)


@pytest.fixture(scope="module")
def verbose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with curl_verbose = 1."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), curl_verbose=1, tls_verify_peer=0).wait_ready()
    yield daemon
    daemon.close()


# -- which lines


def test_each_line_has_the_id_of_its_query(verbose: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with verbose.client() as client:
        reply = client.query(f"{origin.url}/path", "R", hdr=["X-Foo: bar"], body=b"the body")
    lines = wait_for("its lines", lambda: lines_of(verbose, reply.id))
    sent = [line.removeprefix("[cURL hdr out] ") for line in lines if line.startswith("[cURL hdr out] ")]
    came = [line.removeprefix("[cURL hdr in] ") for line in lines if line.startswith("[cURL hdr in] ")]
    assert sent[:2] == ["POST /path HTTP/1.1", f"Host: 127.0.0.1:{origin.port}"]
    assert "X-Foo: bar" in sent
    assert came == ["HTTP/1.1 200 OK", "Content-Length: 2"]
    assert f"[cURL] Trying 127.0.0.1:{origin.port}..." in lines
    assert all(line.startswith("[cURL") for line in lines)
    assert "the body" not in verbose.log  # data is never logged


def test_a_query_asks_for_it(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(), start_origin(answer)
    with daemon.client() as client:
        quiet = client.query(origin.url)
        loud = client.query(origin.url, verbose=1)
        again = client.query(origin.url, verbose=0)
    assert wait_for("its lines", lambda: lines_of(daemon, loud.id))
    daemon.terminate()
    assert (lines_of(daemon, quiet.id), lines_of(daemon, again.id)) == ([], [])
    assert daemon.log.count("[cURL hdr in] HTTP/1.1 200 OK") == 1


def test_a_query_does_without(verbose: Daemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with verbose.client() as client:
        quiet = client.query(origin.url, verbose=0)
        loud = client.query(origin.url)
    assert wait_for("the other's lines", lambda: lines_of(verbose, loud.id))
    assert lines_of(verbose, quiet.id) == []


def test_while_it_runs(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(workers=2), start_origin(answer)
    with daemon.client() as client:
        replies = []
        for value in (0, 1, 0):
            client.set("curl_verbose", value)
            replies.append(client.query(origin.url))
    daemon.terminate()
    assert [bool(lines_of(daemon, reply.id)) for reply in replies] == [False, True, False]


def test_level_above_info_has_none_of_it(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    daemon, origin = start_daemon(curl_verbose=1, log_level="info"), start_origin(answer)
    with daemon.client() as client:
        client.set("log_level", "warning")
        assert client.query(origin.url).ok == 1
    daemon.terminate()
    assert "[cURL" not in daemon.log


def test_what_an_origin_says_steers_no_terminal(verbose: Daemon, start_origin: StartOrigin) -> None:
    reply_ = b"HTTP/1.1 200 \x1b[2J\r\nX-A: \x1b]0;title\x07\xff\xfe\xc2\x9b31m\r\nContent-Length: 0\r\n\r\n"
    origin = start_origin(lambda sock, _head: sock.sendall(reply_))
    with verbose.client() as client:
        reply = client.query(origin.url)
    lines = wait_for("its lines", lambda: lines_of(verbose, reply.id))
    assert r"[cURL hdr in] HTTP/1.1 200 \x1b[2J" in lines
    assert r"[cURL hdr in] X-A: \x1b]0;title\x07\xff\xfe\x9b31m" in lines
    assert "\x1b" not in verbose.log


def test_lines_are_bounded(verbose: Daemon, start_origin: StartOrigin) -> None:
    reply_ = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 50_000 + b"\r\nContent-Length: 0\r\n\r\n"
    origin = start_origin(lambda sock, _head: sock.sendall(reply_))
    with verbose.client() as client:
        reply = client.query(origin.url)
    assert reply.ok == 1
    lines = wait_for("its lines", lambda: lines_of(verbose, reply.id))
    assert max(map(len, lines)) < 5000


# -- secrets


class Http2Nginx(Server):
    """nginx with HTTP/2 over TLS: sets a cookie, and leads to another path with a login in the URL."""

    CONFIG = """
{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; events {{ }}
http {{
    access_log off; ssl_certificate server.pem; ssl_certificate_key server.pem;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        add_header Set-Cookie "sid={cookie}" always; add_header X-Auth-Token {token} always;
        location / {{ return 302 https://next:{password}@127.0.0.1:{port}/next; }}
        location /next {{ return 200 ok; }}
    }}
}}
"""

    def __init__(self, directory: Path) -> None:
        certificate = trustme.CA().issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
        self.port = free_port()
        user = "user root;" if os.geteuid() == 0 else ""
        named = {"user": user, "port": self.port, "cookie": SET_COOKIE, "token": TOKEN, "password": NEXT_PASSWORD}
        (directory / "nginx.conf").write_text(self.CONFIG.format(**named))
        self._run([nginx_path(), "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "stderr"], directory)


@pytest.fixture(scope="module")
def http2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Nginx]:
    server = Http2Nginx(tmp_path_factory.mktemp("nginx"))
    yield server
    server.close()


def telling(connection: socket.socket, head: bytes) -> None:
    """An origin that tells secrets in each header that has some."""
    if b" /next" in head.split(b"\r\n")[0]:
        answer(connection, head)
        return
    port = connection.getsockname()[1]
    connection.sendall(
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"
        f"sEt-cOOkie:   sid={SET_COOKIE}; Path=/\r\n"
        f"Set-Cookie: a=b;\r\n\t{FOLDED}=1\r\n"
        f"Location: http://next:{NEXT_PASSWORD}@127.0.0.1:{port}/next?access_token={TOKEN}\r\n"
        f"X-Auth-Token: {TOKEN}\r\n\r\n".encode()
    )


def ask_everything(client: Client, url: str, http_version: int) -> list[str]:
    """Queries that carry secrets in all ways that there are. Returns their ids."""
    hdr = [f"Cookie: sid={COOKIE}", f"x-api-KEY: {KEY}"]
    options: dict[str, Any] = {"hdr": hdr, "follow_redirect": 1, "http_version": http_version}
    with_login = url.replace("://", f"://alice:{URL_PASSWORD}@", 1)
    replies = [
        client.query(f"{url}/", username="alice", password=PASSWORD, authmethod=BASIC, **options),
        client.query(f"{with_login}/", authmethod=BASIC, **options),
        client.query(f"{url}/?password={PASSWORD}", **options | {"hdr": [f"Authorization: Bearer {BEARER}", *hdr]}),
    ]
    assert [reply.rs for reply in replies] == [200, 200, 200]
    return [reply.id for reply in replies]


SECRETS = {
    *(PASSWORD, URL_PASSWORD, COOKIE, BEARER, KEY, SET_COOKIE, NEXT_PASSWORD, TOKEN),
    *(basic("alice", PASSWORD), basic("alice", URL_PASSWORD), basic("next", NEXT_PASSWORD)),
}


@pytest.mark.parametrize("log_secrets", ["false", "true"])
@pytest.mark.parametrize("http_version", [0, 2])
def test_secrets(
    start_daemon: StartDaemon,
    start_origin: StartOrigin,
    http2: Http2Nginx,
    log_secrets: str,
    http_version: int,
) -> None:
    """The same queries twice: what the one log shows, the other hides."""
    url = f"https://127.0.0.1:{http2.port}" if http_version else start_origin(telling).url
    daemon = start_daemon(curl_verbose=1, tls_verify_peer=0, log_secrets=log_secrets, log_level="debug")
    with daemon.client() as client:
        ids = ask_everything(client, url, http_version)
        tailed = "\n".join(event["message"] for event in client.tail(lines=1000))
    daemon.terminate()
    # HTTP/2 has no folded headers; and with HTTP/1.1, libcurl does not tell the URL that it was given.
    told = SECRETS if http_version else SECRETS - {URL_PASSWORD} | {FOLDED}
    for seen in (daemon.log, tailed):
        found = {secret for secret in SECRETS | {FOLDED} if secret in seen}
        assert found == (told if log_secrets == "true" else set())
    assert all(lines_of(daemon, id_) for id_ in ids)
    assert daemon.log.count("[redacted]") == 0 or log_secrets == "false"


def test_http_2_is_what_was_spoken(verbose: Daemon, http2: Http2Nginx) -> None:
    """Else the test above would not show what it should."""
    with verbose.client() as client:
        reply = client.query(f"https://127.0.0.1:{http2.port}/next", hdr=[f"Cookie: sid={COOKIE}"])
    lines = wait_for("its lines", lambda: lines_of(verbose, reply.id))
    assert reply.http_version == "2"
    assert "[cURL] [HTTP/2] [1] [cookie: [redacted]]" in lines
    assert "[cURL hdr in] set-cookie: [redacted]" in lines


@pytest.mark.parametrize("authmethod", [DIGEST, BASIC | DIGEST])
def test_digest(verbose: Daemon, httpbin: Httpbin, authmethod: int) -> None:
    with verbose.client() as client:
        url = f"{httpbin.url}/digest-auth/auth/alice/{PASSWORD}"
        reply = client.query(url, username="alice", password=PASSWORD, authmethod=authmethod)
    assert reply.rs == 200
    lines = wait_for("its lines", lambda: lines_of(verbose, reply.id))
    assert "[cURL hdr out] Authorization: [redacted]" in lines
    assert [line for line in lines if 'response="' in line or "alice'" in line] == []
    (asked,) = [line for line in lines if line.startswith("[cURL hdr in] WWW-Authenticate: ")]
    assert 'nonce="' in asked  # what the origin asks for is no secret, and says why a login failed


def test_user_info_that_libcurl_cuts(verbose: Daemon, start_origin: StartOrigin) -> None:
    """libcurl's texts end after 2 KB, and a URL's @ may lie behind."""
    secret = NEXT_PASSWORD * 400

    def script(connection: socket.socket, head: bytes) -> None:
        if head.startswith(b"GET /next"):
            answer(connection, head)
        else:
            location = f"http://u:{secret}@127.0.0.1:{connection.getsockname()[1]}/next"
            connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    origin = start_origin(script)
    with verbose.client() as client:
        reply = client.query(origin.url, follow_redirect=1)
    assert reply.rs == 200
    lines = wait_for("its lines", lambda: lines_of(verbose, reply.id))
    assert [line for line in lines if "Issue another request" in line]
    assert NEXT_PASSWORD not in "".join(lines)


def test_errors_hide_secrets_too(start_daemon: StartDaemon, nobody: str) -> None:
    daemon = start_daemon(curl_verbose=1, log_level="debug")
    with daemon.client() as client:
        client.query(nobody.replace("://", f"://alice:{URL_PASSWORD}@"))
        client.query(f"http://alice:{URL_PASSWORD}@nobody.invalid/")
        client.query(f"http://alice:{URL_PASSWORD}@127.0.0.1:99999/")
    daemon.terminate()
    assert URL_PASSWORD not in daemon.log


# -- the callback


@pytest.fixture
def logged() -> Iterator[list[Entry]]:
    """What this process logs, from a handler of the test's own."""
    handler, events = log.Handler(), list[Entry]()
    handler.sink = events.append
    before, level = log.logger.handlers[:], log.logger.level
    log.logger.handlers[:] = [handler]
    log.logger.setLevel("INFO")
    yield events
    log.logger.handlers[:] = before
    log.logger.setLevel(level)
    Verbose.faulty = False


def test_a_fault_is_not_raised_into_libcurl_and_told_once(logged: list[Entry]) -> None:
    def broken() -> str:
        raise RuntimeError("no id")

    debug = Verbose(broken)
    for _ in range(3):
        debug(pycurl.INFOTYPE_TEXT, b"text\n")
    assert [event.message.split("\n")[0] for event in logged] == ["what libcurl says cannot be logged"]


def test_folded_headers_of_an_older_libcurl(logged: list[Entry]) -> None:
    """It gives each line of one by itself."""
    debug = Verbose(lambda: "x-1")
    for line in (b"Set-Cookie: a\r\n", b" secret\r\n", b"\tsecret\r\n", b"Server: x\r\n", b" y\r\n", b"\r\n"):
        debug(pycurl.INFOTYPE_HEADER_IN, line)
    assert [event.message.removeprefix("[cURL hdr in] ") for event in logged] == [
        *("Set-Cookie: [redacted]", " [redacted]", " [redacted]", "Server: x", " y"),
    ]
    assert {event.id for event in logged} == {"x-1"}


REQUEST = (
    b"GET /?token=query7Zq HTTP/1.1\r\nHost: h\r\nCookie: sid=cookie7Zq\r\nX-A: gr\xc3\xbcn\r\n"
    b"Authorization: Basic bearer7Zq\r\nX-Last: 1\r\n\r\n"
)
SHOWN = ["GET /?token=[redacted] HTTP/1.1", "Host: h", "Cookie: [redacted]", "X-A: grün"]
SHOWN += ["Authorization: [redacted]", "X-Last: 1"]


@pytest.mark.parametrize(
    ("kind", "name"), [(pycurl.INFOTYPE_HEADER_IN, "[cURL hdr in] "), (pycurl.INFOTYPE_HEADER_OUT, "[cURL hdr out] ")]
)
@pytest.mark.parametrize("size", range(1, 40))
def test_headers_in_pieces(logged: list[Entry], kind: int, name: str, size: int) -> None:
    debug = Verbose(lambda: "x-1")
    for begin in range(0, len(REQUEST), size):
        debug(kind, REQUEST[begin : begin + size])
        debug(pycurl.INFOTYPE_TEXT, b"between")
    assert [event.message.removeprefix(name) for event in logged if event.message.startswith(name)] == SHOWN


def test_the_level_changes_in_the_middle_of_a_header(logged: list[Entry]) -> None:
    debug = Verbose(lambda: "x-1")
    log.logger.setLevel("WARNING")
    debug(pycurl.INFOTYPE_HEADER_OUT, b"Cookie: sid=coo")
    log.logger.setLevel("INFO")
    debug(pycurl.INFOTYPE_HEADER_OUT, b"kie7Zq\r\nX-A: 1\r\n")
    assert [event.message for event in logged] == ["[cURL hdr out] Cookie: [redacted]", "[cURL hdr out] X-A: 1"]


def test_what_one_query_left_unfinished_is_none_of_the_next(logged: list[Entry]) -> None:
    queries = ["x-1"]
    debug = Verbose(lambda: queries[-1])
    debug(pycurl.INFOTYPE_HEADER_OUT, b"GET / HTTP/1.1\r\nX-A: unfin")
    queries.append("x-2")
    debug(pycurl.INFOTYPE_HEADER_OUT, b"GET /next HTTP/1.1\r\n\r\n")
    assert [(event.id, event.message.removeprefix("[cURL hdr out] ")) for event in logged] == [
        *(("x-1", "GET / HTTP/1.1"), ("x-2", "GET /next HTTP/1.1")),
    ]


def test_a_long_header_is_one_line_of_the_log(logged: list[Entry]) -> None:
    debug = Verbose(lambda: "x-1")
    for piece in (b"X-A: ", *[b"x" * 65_536] * 10, b"\r\nCookie: ", *[b"cookie7Zq" * 7000] * 10, b"\r\nX-B: 1\r\n"):
        debug(pycurl.INFOTYPE_HEADER_OUT, piece)
    long, *others = [event.message for event in logged]
    assert re.fullmatch(r"\[cURL hdr out\] X-A: x{3000,}… \((\d+) characters more\)", long)
    assert sum(int(number) for number in re.findall(r"\d{5,}", long)) + long.count("x") == 655_360
    assert others == ["[cURL hdr out] Cookie: [redacted]", "[cURL hdr out] X-B: 1"]


def test_a_request_longer_than_libcurls_buffer(verbose: Daemon, start_origin: StartOrigin) -> None:
    """It tells of that in pieces; each time another part of the second header stands behind the first's end."""
    origin = start_origin(answer)
    begin = len(
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\nUser-Agent: hacd/0.1.0\r\nAccept: */*\r\nX-P: \r\n"
    )
    with verbose.client() as client:
        for part in range(-4, 20, 3):
            padding = "p" * (65_536 - begin - part)
            reply = client.query(origin.url, hdr=[f"X-P: {padding}", f"Cookie: sid={COOKIE}", f"X-Token: {KEY}"])
            lines = wait_for("its lines", partial(lines_of, verbose, reply.id))
            assert "[cURL hdr out] Cookie: [redacted]" in lines
            assert [line for line in lines if COOKIE[-3:] in line or KEY[-3:] in line] == []


@pytest.mark.parametrize(
    "kind",
    [
        *(pycurl.INFOTYPE_DATA_IN, pycurl.INFOTYPE_DATA_OUT),
        *(pycurl.INFOTYPE_SSL_DATA_IN, pycurl.INFOTYPE_SSL_DATA_OUT),
    ],
)
def test_data_is_never_logged(logged: list[Entry], kind: int) -> None:
    Verbose(lambda: "x-1")(kind, b"secret")
    assert logged == []


def test_many_at_once_are_told_apart(verbose: Daemon) -> None:
    """Each line with the id of its own query, also where a hundred are under way."""
    origin = RawOrigin(answer)
    with verbose.client() as client:
        replies = list(client.query_many([(f"{origin.url}/{n}", "R") for n in range(100)], in_flight=50))
    origin.close()
    for reply in replies:
        sent = [line for line in lines_of(verbose, reply.id) if line.startswith("[cURL hdr out] GET")]
        assert sent == [f"[cURL hdr out] GET /{reply.index} HTTP/1.1"]
