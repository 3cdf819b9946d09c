"""How many connections and handles are kept."""

from __future__ import annotations

import resource
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress

import pycurl
import pytest
import trustme

from hacd.worker.room import CONNECTIONS, Room
from tests.conftest import StartDaemon
from tests.support.origins import Nginx

LIMIT = 20_000


class Multi:
    """Takes what a CurlMulti is told."""

    def __init__(self) -> None:
        self.connections = 0

    def setopt(self, option: int, value: int) -> None:
        if option == pycurl.M_MAXCONNECTS:
            self.connections = value
        else:
            assert (option, value) == (pycurl.M_MAX_TOTAL_CONNECTIONS, 2 * self.connections)


@pytest.fixture
def multi(monkeypatch: pytest.MonkeyPatch) -> Multi:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (LIMIT, LIMIT))
    return Multi()


def test_it_follows_what_is_in_flight(multi: Multi) -> None:
    room = Room(multi)
    assert (multi.connections, room.handles) == (CONNECTIONS, CONNECTIONS // 2)
    room.grow(room.enough + 1)
    assert (multi.connections, room.handles, room.enough) == (2 * CONNECTIONS, CONNECTIONS, CONNECTIONS)
    room.grow(3000)
    assert multi.connections == 8 * CONNECTIONS >= 2 * 3000


def test_half_of_the_descriptors_at_the_most(multi: Multi) -> None:
    room = Room(multi)
    room.grow(9000)
    assert multi.connections == LIMIT // 2
    assert room.enough > 1_000_000  # nobody asks again


def test_a_peak_is_forgotten_bit_by_bit(multi: Multi) -> None:
    room = Room(multi)
    room.grow(3000)
    room.look(2000)
    assert multi.connections == 8 * CONNECTIONS
    seen = []
    for _ in range(5):
        room.look(10)
        seen.append(multi.connections // CONNECTIONS)
    assert seen == [4, 2, 1, 1, 1]
    assert room.enough == CONNECTIONS // 2


def test_slow_transfers_leave_the_others_their_connections(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """libcurl counts connections that are used: a thousand of them left the others nothing to be kept."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CONNECTIONS) as silent, start_daemon().client() as client:
        for _ in range(CONNECTIONS + 100):
            client.send(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=60_000)
        used = {client.query(f"{nginx.url}/connection").rb.split()[0] for _ in range(20)}
    assert len(used) == 1


@pytest.fixture
def deaf_origin() -> Iterator[str]:
    """The URL of an origin on TLS that says it will close, does not, and does not hear that the other end does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    connections: list[ssl.SSLSocket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                sock = context.wrap_socket(listener.accept()[0], server_side=True)
                connections.append(sock)
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for sock in connections:
        sock.close()


def test_connections_that_their_origin_does_not_close_are_bounded(deaf_origin: str) -> None:
    """libcurl waits for the other end's goodbye, and sets itself no time for that."""
    least = 4
    multi = pycurl.CurlMulti()
    wanted: dict[int, int] = {}
    multi.setopt(pycurl.M_SOCKETFUNCTION, lambda what, fd, *_: wanted.update({fd: what}))
    Room(multi, least)
    curl = pycurl.Curl()
    for option, value in ((pycurl.URL, deaf_origin), (pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0)):
        curl.setopt(option, value)
    for _ in range(4 * least):
        multi.add_handle(curl)
        carry_out(multi, wanted)
        multi.remove_handle(curl)
        assert curl.getinfo(pycurl.RESPONSE_CODE) == 204
    assert sum(what != pycurl.POLL_REMOVE for what in wanted.values()) <= 2 * least
    curl.close()
    multi.close()


def carry_out(multi: pycurl.CurlMulti, wanted: dict[int, int]) -> None:
    """Until the transfer has ended, as a loop would."""
    while True:
        if multi.timeout() == 0:
            multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        _, done, failed = multi.info_read()
        assert not failed
        if done:
            return
        poll = select.poll()
        for fd, what in wanted.items():
            if what != pycurl.POLL_REMOVE:
                events = (select.POLLIN if what & pycurl.POLL_IN else 0) | (
                    select.POLLOUT if what & pycurl.POLL_OUT else 0
                )
                poll.register(fd, events)
        for fd, _ in poll.poll(max(0, min(multi.timeout(), 50))):
            multi.socket_action(fd, 0)
