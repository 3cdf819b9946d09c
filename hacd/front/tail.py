"""The last lines of all processes' logs, and who follows them (`hacd tail`). No socket, no clock.

Law: the log waits for no reader. One who does not keep up misses lines, and is told how many; and
nothing here logs, or it would never end.
"""

from __future__ import annotations

from collections import deque
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from hacd import rpc
from hacd.errors import BadRequest, shown
from hacd.log.entry import PRIORITIES, Entry
from hacd.log.relay import skipped

#: events that are kept
KEPT = 1000

#: lines that `tail` gives where it is not said how many
LINES = 10

#: Bytes that may wait for who follows, behind what he has begun to read. Below the least `max_client_buffer`,
#: so that it is lines that he loses, and not his connection.
BACKLOG = rpc.CHUNK // 2

_RIGHT = {
    "id": "the id of a query",
    "route": "the name of a route",
    "level": "debug, info, warning or error",
    "lines": f"an integer from 0 to {KEPT}",
    "follow": "true or false",
}


class Reader(Protocol):
    """Who tails the log: a caller's connection."""

    @property
    def backlog(self) -> int:
        """Bytes that wait for him, behind what he has begun to read."""

    def send(self, *parts: bytes) -> None:
        """Send him bytes."""


class Filter(NamedTuple):
    """Which events are wanted: of that query, of that route, of that priority and graver ones."""

    id: str = ""
    route: str = ""
    priority: int = PRIORITIES["debug"]
    lines: int = LINES
    follow: bool = False

    def matches(self, event: dict[str, Any]) -> bool:
        """Whether that event is one of them."""
        return (
            (not self.id or event["id"] == self.id)
            and (not self.route or event["route"] == self.route)
            and PRIORITIES.get(event["level"], 0) <= self.priority
        )


def parse(params: list[Any]) -> Filter:
    """The filter that `[{filter}]` asks for; nil is as good as leaving a key out. Raises BadRequest."""
    if len(params) > 1 or (params and type(params[0]) is not dict):
        raise BadRequest("tail: params: [{filter}] would be right")
    wanted: dict[str, Any] = {}
    for name, value in (params[0] if params else {}).items():
        if name not in _RIGHT:
            raise BadRequest(f"tail: filter {shown(name)} is unknown; there are: {', '.join(_RIGHT)}")
        if value is not None:
            wanted |= _judged(name, value)
    return Filter(**wanted)


def _judged(name: str, value: Any) -> dict[str, Any]:
    if name == "level" and type(value) is str and value in PRIORITIES:
        return {"priority": PRIORITIES[value]}
    if (
        (name in ("id", "route") and type(value) is str)
        or (name == "lines" and type(value) is int and 0 <= value <= KEPT)
        or (name == "follow" and value in (0, 1) and isinstance(value, int))
    ):
        return {name: value}
    raise BadRequest(f"tail: {name}: {shown(value)} is wrong: {_RIGHT[name]} would be right")


class _Follower:
    """One reader, what he wants, and what he missed."""

    __slots__ = ("filter", "missed", "reader")

    def __init__(self, reader: Reader, filter_: Filter) -> None:
        self.reader = reader
        self.filter = filter_
        self.missed = 0

    def tell(self, event: dict[str, Any], packed: bytes) -> None:
        """Send an event, or count it where too much waits for him."""
        if self.reader.backlog + len(packed) > BACKLOG and self.reader.backlog:
            self.missed += 1
            return
        if self.missed:
            note = skipped(Entry.of(event), self.missed).as_map()
            self.missed = 0
            self.reader.send(rpc.notification("log", [note]))
        self.reader.send(packed)


class Tail:
    """The last KEPT events, and their followers."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._followers: dict[Reader, _Follower] = {}

    def add(self, event: dict[str, Any]) -> None:
        """An event of one of the processes, as a map of `time level process pid id route message`."""
        self._kept.append(event)
        if not self._followers:
            return
        packed = rpc.notification("log", [event])
        for follower in self._followers.values():
            if follower.filter.matches(event):
                follower.tell(event, packed)

    def last(self, filter_: Filter) -> list[dict[str, Any]]:
        """The last `lines` events that match, the oldest first."""
        found: list[dict[str, Any]] = []
        for event in reversed(self._kept):
            if len(found) == filter_.lines:
                break
            if filter_.matches(event):
                found.append(event)
        found.reverse()  # of the same time, in the order that they came in
        found.sort(key=itemgetter("time"))
        return found

    def follow(self, reader: Reader, filter_: Filter) -> None:
        """Send that reader what matches from now on; what he followed before, he follows no more."""
        self._followers[reader] = _Follower(reader, filter_)

    def follows(self, reader: Reader) -> bool:
        """Whether he does."""
        return reader in self._followers

    def leave(self, reader: Reader) -> None:
        """That reader has gone."""
        self._followers.pop(reader, None)
