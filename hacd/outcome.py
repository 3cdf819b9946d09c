"""The outcome of a transfer, as it travels from a worker, or from the front's own deadline, to a caller.

An outcome is packed once, where it is known: the map header of the whole reply and all
members but the last three. The front appends `id`, `route` and `xdata`, which only its
hash holds, and so splices a reply together without opening it.
"""

from __future__ import annotations

from typing import Any

from hacd.rpc import pack

# curl's codes that hacd gives itself (CURLE_* of libcurl, where their texts are)
URL_MALFORMED = 3
WRITE_ERROR = 23
TIMED_OUT = 28
ABORTED = 42
RECV_ERROR = 56
TOO_LARGE = 63

#: members that a worker packs, and those that the front appends
OWN = ("ok", "code", "err", "rs", "rr", "http_version", "head", "rb", "time", "url", "ip")
APPENDED = ("id", "route", "xdata")

#: names of the time map, µs, in curl's order; hacd's own `queue` comes last
TIMES = ("total", "lookup", "connect", "appconnect", "pretransfer", "starttransfer", "redirect", "queue")

MAP_HEADER = bytes([0x80 | (len(OWN) + len(APPENDED))])


def failure(code: int, err: str, url: str, total: int) -> bytes:
    """A packed outcome of a transfer that hacd ended itself.

    `code` is curl's, `err` a line for people, `total` the µs since the query was accepted.
    """
    times = {"total": total, "lookup": 0, "connect": 0, "appconnect": 0}
    times |= {"pretransfer": 0, "starttransfer": 0, "redirect": 0, "queue": 0}
    return compose((0, code, err, 0, "", "", b"", b"", times, url, ""))


def compose(values: tuple[Any, ...]) -> bytes:
    """Pack `values`, one for each name in OWN, as the begin of a reply's map."""
    return MAP_HEADER + b"".join([pack(part) for pair in zip(OWN, values, strict=True) for part in pair])


def appendix(public_id: str, route: str, xdata: Any) -> bytes:
    """The members that the front appends, without a header of their own."""
    return pack(("id", public_id, "route", route, "xdata", xdata))[1:]
