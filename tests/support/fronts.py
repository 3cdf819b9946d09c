"""Several fronts on one socket: a caller at each of them."""

from __future__ import annotations

from functools import partial

from tests.support.daemon import Daemon
from tests.support.waiting import wait_for
from tests.support.wire import Wire


def front_pids(daemon: Daemon, count: int) -> list[int]:
    """The pids of fronts 1 to `count`."""
    return [daemon.pid(f"front {number}") for number in range(1, count + 1)]


def dial(daemon: Daemon, pid: int) -> Wire:
    """A connection that the front of that pid has accepted: callers land where they land."""
    found: list[Wire] = []
    wait_for(f"front [{pid}] to accept", partial(_dial, daemon, pid, found))
    return found[0]


def _dial(daemon: Daemon, pid: int, found: list[Wire]) -> bool:
    wire = Wire(daemon.socket)
    if wire.call("ping", [])[1]["pid"] == pid:
        found.append(wire)
        return True
    wire.sock.close()
    return False


class Callers:
    """A caller at each of `count` fronts: `wires`, in the order of their numbers."""

    def __init__(self, daemon: Daemon, count: int) -> None:
        self.pids = front_pids(daemon, count)
        self.wires: list[Wire] = []
        for pid in self.pids:
            self.wires.append(dial(daemon, pid))
        for wire in self.wires:
            wait_for("the fronts to know each other", partial(knows_all, wire, count))

    def __enter__(self) -> list[Wire]:
        return self.wires

    def __exit__(self, *_: object) -> None:
        for wire in self.wires:
            wire.sock.close()


def knows_all(wire: Wire, count: int) -> bool:
    """Whether the front at its other end can ask all others: each tells of one caller at least."""
    fronts = wire.call("stats", [])[1]["fronts"]
    return bool(sum(row["clients"] > 0 for row in fronts) == count)
