"""Callers who send anything, in any pieces, beside a neighbour who must not notice."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hacd import Client
from tests.support.daemon import Daemon
from tests.support.origins import RawOrigin
from tests.support.waiting import wait_for

#: the same examples each time, however slow the machine is
FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
#: but for `stop` and `set`, which do what they say; `tail` is asked for all the same
METHODS = [
    "query",
    "send",
    "run",
    "cancel",
    "register",
    "stats",
    "transactions",
    "ping",
    "hello",
    "tail",
    "reload",
    "no",
]
OPTIONS = st.dictionaries(
    st.sampled_from(["route", "suspend", "timeout", "hdr", "body", "vars", "xdata", "method", "authmethod", "no"]),
    VALUES | st.integers(0, 3),
    max_size=4,
)


@pytest.fixture(scope="module")
def silent() -> Iterator[RawOrigin]:
    origin = RawOrigin(lambda _sock, _head: None)
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def neighbour(daemon: Daemon) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


@st.composite
def messages(draw: st.DrawFn) -> Any:
    """A call that is right, one that nearly is, or bytes. URL stands for an origin that hangs."""
    kind = draw(st.integers(0, 8))
    if kind == 0:
        return draw(st.binary(min_size=1, max_size=40))
    if kind == 1:
        return msgpack.packb(draw(VALUES))
    if kind > 5:
        options = {"timeout": 60_000, "xdata": draw(PLAIN), "route": draw(st.text("RS", max_size=2))}
        return [0, draw(st.integers(0, 9)), draw(st.sampled_from(["query", "send"])), ["URL", options]]
    method = draw(st.sampled_from(METHODS) | st.text(max_size=6))
    params = ["URL", draw(OPTIONS)] if kind < 5 and method in ("query", "send") else draw(VALUES)
    head = draw(st.sampled_from([[0, draw(st.integers(0, 5))], [2]]))
    return [*head, method, params]


@FEW
@given(st.lists(messages(), min_size=1, max_size=12), st.integers(1, 500), st.booleans())
def test_whatever_is_sent(
    daemon: Daemon, neighbour: Client, silent: RawOrigin, sent: list[Any], piece: int, vanishes: bool
) -> None:
    before = neighbour.ping()["pid"]
    data = b"".join(message if isinstance(message, bytes) else pack(message, silent.url) for message in sent)
    with socket.socket(socket.AF_UNIX) as caller, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        caller.connect(daemon.socket)
        caller.settimeout(20)
        for begin in range(0, len(data), piece):
            caller.sendall(data[begin : begin + piece])
        if not vanishes:
            caller.shutdown(socket.SHUT_WR)
            while caller.recv(65536):
                continue
    assert neighbour.ping()["pid"] == before
    for row in neighbour.transactions():  # those that were not suspended go on
        neighbour.cancel(row["id"])
    wait_for("all to end", lambda: ended(neighbour))
    daemon.balance()


def ended(neighbour: Client) -> bool:
    stats = neighbour.stats()
    for row in neighbour.transactions():
        neighbour.cancel(row["id"])
    return not stats["in_flight"] and stats["clients"] == 1


def pack(message: list[Any], url: str) -> bytes:
    *head, params = message
    if isinstance(params, list) and params[:1] == ["URL"]:
        params = [url, *params[1:]]
    packed: bytes = msgpack.packb([*head, params])
    return packed
