"""The outcome of a transfer, as it travels from a worker, or from the front's own deadline, to a caller.

An outcome is packed once, where it is known: the map header of the whole reply and all
members but the last three. The front appends `id`, `route` and `xdata`, which only its
hash holds, and so splices a reply together without opening it.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from hacd.arena import Block
from hacd.remember import remember
from hacd.rpc import bin_head, pack, str_head
from hacd.shared import Shared

# curl's codes that hacd gives itself (CURLE_* of libcurl, where their texts are)
URL_MALFORMED = 3
COULDNT_CONNECT = 7
WRITE_ERROR = 23
TIMED_OUT = 28
ABORTED = 42
GOT_NOTHING = 52
RECV_ERROR = 56
TOO_LARGE = 63
HEAD_TOO_LARGE = 100

#: what a worker says beside an outcome that `[egress]` refused; callers see COULDNT_CONNECT
DENIED = -COULDNT_CONNECT

#: names of the time map, µs, in curl's order; hacd's own `queue` comes last
TIMES = ("total", "lookup", "connect", "appconnect", "pretransfer", "starttransfer", "redirect", "queue")

# The reply's map is put together from packed fragments: packing it as one dictionary took a
# third of all that a worker does for a small reply beside libcurl. MEMBERS is what fragments add up to.
MEMBERS = ("ok", "code", "err", "rs", "rr", "http_version", "head", "rb", "time", "url", "ip")
APPENDED = ("id", "route", "xdata")
_MAP = bytes([0x80 | (len(MEMBERS) + len(APPENDED))])
_HEAD, _RB, _URL, _IP = pack("head"), pack("rb"), pack("url"), pack("ip")
_UINT64 = b"\xcf"
_TIME = pack("time") + bytes([0x80 | len(TIMES)])
_TIME_NAMES = tuple(pack(name) + _UINT64 for name in TIMES)
_pack_times = Struct(">" + "".join(f"{len(name)}sQ" for name in _TIME_NAMES)).pack
_TOTAL, _LOOKUP, _CONNECT, _APPCONNECT, _PRETRANSFER, _STARTTRANSFER, _REDIRECT, _QUEUE = _TIME_NAMES

#: µs, one for each of TIMES
Times = tuple[int, int, int, int, int, int, int, int]


def begin(code: int, err: str | None, rs: int, rr: str, version: str) -> bytes:
    """The packed begin of an outcome: what is known from curl's code and the status line."""
    values = (int(not code), code, err, rs, rr, version)
    return _MAP + b"".join([pack(part) for pair in zip(MEMBERS, values, strict=False) for part in pair])


def compose(begin: bytes, head: bytes, body: bytes | bytearray, times: Times, url: bytes, ip: bytes) -> bytes:
    """A packed outcome: `begin`, and what differs from transfer to transfer. `url` and `ip` are UTF-8."""
    a, b, c, d, e, f, g, h = times
    packed_times = _pack_times(
        *(_TOTAL, a, _LOOKUP, b, _CONNECT, c, _APPCONNECT, d),
        *(_PRETRANSFER, e, _STARTTRANSFER, f, _REDIRECT, g, _QUEUE, h),
    )
    size = len(body)
    return b"".join(
        (
            *(begin, _HEAD, pack(head), _RB, bin_head(size), body),
            *(_TIME, packed_times, _URL, str_head(len(url)), url, _IP, str_head(len(ip)), ip),
        )
    )


class Parked(Protocol):
    """A body in shared memory, of `size` bytes. Whoever has it lets go of it once."""

    size: int

    def release(self) -> None:
        """Let go of it."""


class Held:
    """An outcome whose body lies in shared memory: packed `begin`, the body, packed `rest`."""

    __slots__ = ("begin", "body", "rest")

    def __init__(self, begin: bytes, body: Parked, rest: bytes) -> None:
        self.begin = begin
        self.body = body
        self.rest = rest

    def as_bytes(self) -> bytes:
        """The packed outcome as it is without shared memory: a copy of the body is in it."""
        assert isinstance(self.body, Shared | Block)  # one that is lent goes to nobody but who borrows
        return b"".join((self.begin, bin_head(self.body.size), self.body.read(), self.rest))

    def release(self) -> None:
        """Let go of the body."""
        self.body.release()


#: an outcome as it travels through the front
Outcome = bytes | Held


def drop(outcome: Outcome) -> None:
    """Nobody takes it."""
    if isinstance(outcome, Held):
        outcome.release()


def hold(begin: bytes, head: bytes, body: Parked, times: Times, url: bytes, ip: bytes) -> Held:
    """As `compose`, around a body in shared memory."""
    whole = compose(begin, head, b"", times, url, ip)
    place = len(begin) + len(_HEAD) + len(pack(head)) + len(_RB)
    return Held(whole[:place], body, whole[place + len(pack(b"")) :])


def failure(code: int, err: str, url: str, total: int) -> bytes:
    """A packed outcome of a transfer that hacd ended itself.

    `code` is curl's, `err` a line for people, `total` the µs since the query was accepted.
    """
    return compose(begin(code, err, 0, "", ""), b"", b"", (total, 0, 0, 0, 0, 0, 0, 0), _utf8(url), b"")


def _utf8(url: str) -> bytes:
    return url.encode("utf-8", "surrogateescape")


#: What stands between the id and the packed xdata, by route. There are few; who makes them up shall not make this grow.
_ROUTES: dict[str, bytes] = {}
ROUTES_MAX = 1024

_ID = pack("id")


def appendix(public_id: str, route: str, xdata: bytes) -> bytes:
    """The members that the front appends, without a header of their own; `xdata` is packed."""
    id_ = public_id.encode()
    return b"".join((_ID, str_head(len(id_)), id_, _ROUTES.get(route) or _between(route), xdata))


def _between(route: str) -> bytes:
    return remember(_ROUTES, route, pack("route") + pack(route) + pack("xdata"), ROUTES_MAX)
