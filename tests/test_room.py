"""How many connections and handles are kept."""

from __future__ import annotations

import resource
import socket

import pycurl
import pytest

from hacd.worker.room import CONNECTIONS, Room
from tests.conftest import StartDaemon
from tests.support.origins import Nginx

LIMIT = 20_000


class Multi:
    """Takes what a CurlMulti is told."""

    def __init__(self) -> None:
        self.connections = 0

    def setopt(self, option: int, value: int) -> None:
        assert option == pycurl.M_MAXCONNECTS
        self.connections = value


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
