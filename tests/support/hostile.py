"""What origins do that no decent one does: scripts for `RawOrigin`, over HTTP/1.1 and over HTTP/2 in the clear.

As a program, `NAME SOCKET`: that origin, and a caller who has the daemon ask it. Each line on stdin lets him begin or
leave off, and is answered with one. In a process of its own, so that it does not hold who measures.

Each script goes on until the other side has had enough, which raises OSError, or until the test is over.
"""

from __future__ import annotations

import gzip
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived
from h2.exceptions import ProtocolError

from hacd import Client, Reply
from tests.support.origins import REPLY, RawOrigin, Script, answer

MIB = 1024 * 1024

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

#: s between two bytes of an origin that drips
DRIP = 0.01

#: ten MiB in ten KiB
BOMB = gzip.compress(bytes(10 * MIB))


@dataclass(frozen=True)
class Hostile:
    """What an origin does, how it is asked, and the codes that a query to it may end with, 0 for a reply."""

    script: Script
    codes: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


def says(*parts: bytes, close: bool = False, reset: bool = False) -> Script:
    """Says that, and then nothing, or hangs up."""

    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(b"".join(parts))
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        if close or reset:
            sock.close()

    return script


def endless(begin: bytes, again: bytes) -> Script:
    """Says `again` for ever, as fast as it is read."""

    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(begin)
        while True:
            sock.sendall(again)

    return script


def drips(begin: bytes, again: bytes) -> Script:
    """Says `again` a byte at a time, and then anew."""

    def script(sock: socket.socket, _head: bytes) -> None:
        sock.sendall(begin)
        pause = threading.Event()
        while True:
            for byte in again:
                sock.sendall(bytes((byte,)))
                pause.wait(DRIP)

    return script


def redirects(location: bytes) -> Script:
    """Sends everybody on, to `location` with one character more each time where it ends with a slash."""

    def script(sock: socket.socket, head: bytes) -> None:
        path = head.split(b" ")[1] + b"x" if location.endswith(b"/") else location
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % path)

    return script


def reads_nothing(sock: socket.socket, _head: bytes) -> None:
    """Wants the upload, and reads none of it. It returns when the other side is gone, or RawOrigin would read on."""
    sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    gone = select.poll()
    gone.register(sock, select.POLLRDHUP)
    gone.poll(20_000)
    sock.close()


def replies_early(sock: socket.socket, head: bytes) -> None:
    """Replies, and reads none of the upload."""
    sock.sendall(REPLY)
    reads_nothing(sock, head)


# -- HTTP/2

#: what an origin does on the stream of a request
OnStream = Callable[[H2Connection, int], None]


def h2(on_stream: OnStream, hang_up: bool = False) -> Script:
    """An origin that speaks HTTP/2 correctly but for what `on_stream` does."""

    def script(sock: socket.socket, head: bytes) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        data = head
        while data:
            try:
                streams = list(_requests(connection.receive_data(data)))
            except ProtocolError:
                return  # the client goes on with a connection that was called off
            for stream in streams:
                on_stream(connection, stream)
            sock.sendall(connection.data_to_send())
            if streams and hang_up:
                sock.close()
                return
            data = sock.recv(65536)

    return script


def _requests(events: Iterable[Any]) -> Iterable[int]:
    return (event.stream_id for event in events if isinstance(event, RequestReceived))


def half_a_reply(connection: H2Connection, stream: int) -> None:
    """A head and a part of a body."""
    connection.send_headers(stream, [(":status", "200"), ("content-length", "100")])
    connection.send_data(stream, b"half")


def resets_stream(code: ErrorCodes, begun: bool = True) -> OnStream:
    """RST_STREAM, in the middle of a reply or before it."""

    def on_stream(connection: H2Connection, stream: int) -> None:
        if begun:
            half_a_reply(connection, stream)
        connection.reset_stream(stream, code)

    return on_stream


def goes_away(code: ErrorCodes, last: int | None = None) -> OnStream:
    """GOAWAY in the middle of a reply; `last` is the last stream that it says to have taken."""

    def on_stream(connection: H2Connection, stream: int) -> None:
        half_a_reply(connection, stream)
        connection.close_connection(code, last_stream_id=stream if last is None else last)

    return on_stream


def h2_garbage(sock: socket.socket, _head: bytes) -> None:
    """SETTINGS, and then what is no frame."""
    sock.sendall(bytes(3) + b"\x04" + bytes(5) + b"\xff" * 64)


PRIOR = {"http_version": 2}
PING_FRAME = b"\x00\x00\x08\x06" + bytes(5) + b"12345678"
SETTINGS_FRAME = bytes(3) + b"\x04" + bytes(5)

#: more than the kernel takes on the way to one who does not read
UPLOAD = {"body": bytes(6 * MIB)}

#: By what they do. The daemon's max_body is 1 MiB and its max_header the default. More than one code: the versions of
#: libcurl do not agree, or it depends on what the kernel has passed on by then.
HOSTILE: dict[str, Hostile] = {
    # for comparison
    "a decent origin": Hostile(answer, (0,)),
    "nothing at all": Hostile(says(), (28,)),
    "drips a head": Hostile(drips(OK, b"X-Filler: x\r\n"), (28,)),
    "drips a status line": Hostile(drips(b"", b"HTTP/1.1 200 OKOKOKOKOKOKOKOKOKOK" * 100), (28,)),
    "drips a body with a length": Hostile(drips(OK + b"Content-Length: 1000000\r\n\r\n", b"."), (28,)),
    "drips a body without a length": Hostile(drips(OK + b"\r\n", b"."), (28,)),
    "drips chunks": Hostile(drips(CHUNKED, b"1\r\n.\r\n"), (28,)),
    "drips the size of a chunk": Hostile(drips(CHUNKED, b"0" * 10), (28, 56)),
    "endless headers": Hostile(endless(OK, b"X-Filler: " + b"x" * 1000 + b"\r\n"), (56, 100)),
    "an endless header": Hostile(endless(OK + b"X-Filler: ", b"x" * 1000), (56, 100)),
    "an endless status line": Hostile(endless(b"HTTP/1.1 200 ", b"x" * 1000), (56, 100)),
    "endless interim replies": Hostile(endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 100), (56, 100)),
    "an endless body with a length": Hostile(
        endless(OK + b"Content-Length: 1000000000000\r\n\r\n", bytes(65536)),
        (63,),
    ),
    "an endless body without a length": Hostile(endless(OK + b"\r\n", bytes(65536)), (63,)),
    "endless chunks": Hostile(endless(CHUNKED, b"1000\r\n" + bytes(4096) + b"\r\n"), (63,)),
    "endless trailers": Hostile(endless(CHUNKED + b"0\r\n", b"X-Filler: " + b"x" * 1000 + b"\r\n"), (56, 100)),
    "a gzip bomb": Hostile(
        says(OK, b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB), BOMB),
        (0,),
    ),
    "a length too long, and closes": Hostile(says(OK, b"Content-Length: 9\r\n\r\nhalf", close=True), (18,)),
    "a length too long, and waits": Hostile(says(OK, b"Content-Length: 9\r\n\r\nhalf"), (28,)),
    "a length too short": Hostile(says(OK, b"Content-Length: 2\r\n\r\nok and more"), (0,)),
    "a negative length": Hostile(says(OK, b"Content-Length: -1\r\n\r\nok", close=True), (8,)),
    "a length past all numbers": Hostile(says(OK, b"Content-Length: %s\r\n\r\nok" % (b"9" * 40), close=True), (0, 63)),
    "two lengths": Hostile(says(OK, b"Content-Length: 2\r\nContent-Length: 4\r\n\r\nokok", close=True), (8,)),
    "chunks that are none": Hostile(says(CHUNKED, b"ZZZ\r\nno chunk\r\n"), (56,)),
    "a chunk past all numbers": Hostile(says(CHUNKED, b"f" * 40 + b"\r\n.\r\n"), (56,)),
    "a chunk longer than it says": Hostile(says(CHUNKED, b"2\r\nok and more\r\n0\r\n\r\n"), (56,)),
    "chunks without an end": Hostile(says(CHUNKED, b"2\r\nok\r\n", close=True), (18,)),
    "a reset before the head": Hostile(says(reset=True), (52, 56)),
    "a reset in the head": Hostile(says(OK, b"X-Half: ", reset=True), (56,)),
    "a reset in the body": Hostile(says(OK, b"Content-Length: 9\r\n\r\nhalf", reset=True), (56,)),
    "a redirect to itself": Hostile(redirects(b"/self"), (47,), {"follow_redirect": 1}),
    "redirects without end": Hostile(redirects(b"/"), (47,), {"follow_redirect": 1}),
    "reads no upload": Hostile(reads_nothing, (28,), UPLOAD),
    "a reply while it reads no upload": Hostile(replies_early, (0, 28), UPLOAD),
    "HTTP/2: nothing at all": Hostile(says(), (28,), PRIOR),
    "HTTP/2: settings and nothing more": Hostile(h2(lambda _connection, _stream: None), (28,), PRIOR),
    "HTTP/2: half a reply": Hostile(h2(half_a_reply), (28,), PRIOR),
    "HTTP/2: garbage": Hostile(h2_garbage, (16, 56), PRIOR),
    "HTTP/2: HTTP/1.1": Hostile(says(REPLY, close=True), (1, 16, 56), PRIOR),
    "HTTP/2: RST_STREAM in a reply": Hostile(h2(resets_stream(ErrorCodes.INTERNAL_ERROR)), (92,), PRIOR),
    "HTTP/2: RST_STREAM before it": Hostile(h2(resets_stream(ErrorCodes.CANCEL, begun=False)), (92,), PRIOR),
    "HTTP/2: refuses each stream": Hostile(h2(resets_stream(ErrorCodes.REFUSED_STREAM, begun=False)), (56, 92), PRIOR),
    "HTTP/2: GOAWAY, and closes": Hostile(h2(goes_away(ErrorCodes.NO_ERROR), hang_up=True), (16, 18, 56, 92), PRIOR),
    "HTTP/2: GOAWAY with an error": Hostile(h2(goes_away(ErrorCodes.ENHANCE_YOUR_CALM)), (16, 18, 28, 56, 92), PRIOR),
    "HTTP/2: GOAWAY that took nothing": Hostile(
        h2(goes_away(ErrorCodes.NO_ERROR, last=0)), (16, 18, 28, 56, 92), PRIOR
    ),
    "HTTP/2: a flood of PING": Hostile(endless(SETTINGS_FRAME, PING_FRAME * 100), (16, 28, 55, 56), PRIOR),
    "HTTP/2: a flood of SETTINGS": Hostile(endless(SETTINGS_FRAME, SETTINGS_FRAME * 100), (16, 28, 55, 56), PRIOR),
}


#: queries to the hostile origin at one time, s from one round of them to the next, and ms that each has
AT_ONCE, PACE, TIMEOUT = 4, 0.02, 100


def ask(client: Client, url: str, hostile: Hostile, timeout: int) -> list[Reply]:
    """AT_ONCE queries, and what becomes of them."""
    queries = [(f"{url}/", {"timeout": timeout, **hostile.options})] * AT_ONCE
    return list(client.query_many(queries, in_flight=AT_ONCE))


def _ask_on(path: str, url: str, hostile: Hostile, over: threading.Event) -> None:
    with Client(path) as client:
        while True:
            ask(client, url, hostile, TIMEOUT)
            if over.wait(PACE):
                return


def main(name: str, path: str) -> None:
    """Ask from the first line to the second, and so on."""
    hostile = HOSTILE[name]
    origin = RawOrigin(hostile.script)
    print("ready", flush=True)
    while sys.stdin.readline():
        over = threading.Event()
        asking = threading.Thread(target=_ask_on, args=(path, origin.url, hostile, over))
        asking.start()
        print("asks", flush=True)
        sys.stdin.readline()
        over.set()
        asking.join()
        print("asks no more", flush=True)
    origin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
