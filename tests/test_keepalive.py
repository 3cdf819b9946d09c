"""`tcp_keepalive` and its two: what reaches the socket."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import StartDaemon, StartOrigin
from tests.support.origins import answer
from tests.support.waiting import wait_for


def test_tcp_keepalive_reaches_the_socket(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """As the kernel shows it in the timers of its TCP sockets."""
    plain, origin = start_origin(answer), start_origin(answer)
    with start_daemon().client() as client:
        assert client.query(plain.url).ok == 1
        assert keepalive_timers(plain.port) == []
        assert client.query(origin.url, tcp_keepalive=1, tcp_ka_idle=77, tcp_ka_interval=88).ok == 1
        (seconds,) = wait_for("a keep-alive timer", lambda: keepalive_timers(origin.port))
        assert 60 < seconds <= 77


def keepalive_timers(port: int) -> list[float]:
    """Seconds until the next probe, for each connection to that port that has such a timer (2)."""
    timers = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, _, timer, *_ = line.split()
        active, _, when = timer.partition(":")
        if remote.endswith(f":{port:04X}") and state == "01" and active == "02":
            timers.append(int(when, 16) / 100)
    return timers
