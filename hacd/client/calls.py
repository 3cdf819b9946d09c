"""What both clients say and hear: where the daemon is, the words of each call, and what came back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from hacd import rpc
from hacd.errors import TOO_LARGE, ConnectionLost, ProtocolError, Refused, Unavailable, from_wire
from hacd.reply import Reply

#: A reply is as long as the daemon lets it be; the client trusts the daemon that it dialled.
MAX_FRAME = 2**31 - 1 - 4 * rpc.CHUNK

#: Where a socket may be said to be.
Path = str | os.PathLike[str]

#: What `query_many` takes for each query: a URL; (URL, route); (URL, route, options); (URL, options).
Item = str | tuple[Any, ...]

REFUSED = -1


def find_socket(path: Path | None = None) -> str:
    """`path`, or HACD_SOCKET, or the first default that exists."""
    if path is not None:
        return os.fspath(path)
    named = os.environ.get("HACD_SOCKET")
    if named:
        return named
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    defaults = [f"{runtime}/hacd/hacd.sock"] if runtime else []
    defaults.append("/run/hacd/hacd.sock")
    return next((default for default in defaults if os.path.exists(default)), defaults[-1])


def unavailable(path: str, error: OSError) -> Unavailable:
    """No daemon answers there, and what to do about it."""
    if not path:
        return Unavailable("the socket's path is empty: leave it out for the default")
    hint = {
        FileNotFoundError: "is hacd running, and is this its socket?",
        ConnectionRefusedError: "nobody listens there; start hacd",
        PermissionError: "this user may not open it",
    }.get(type(error), "")
    return Unavailable(f"{path}: {error.strerror or error}{': ' if hint else ''}{hint}")


def lost(path: str, why: str) -> ConnectionLost:
    """The daemon went away with calls in flight."""
    return ConnectionLost(f"{path}: the daemon went away before this call ended ({why}): its outcome is not known")


def decoder(ext_hook: rpc.ExtHook = rpc.no_ext) -> rpc.Decoder:
    """A decoder for what a daemon sends."""
    return rpc.Decoder(MAX_FRAME, None, ext_hook=ext_hook)


def options(route: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a query as they travel."""
    return {"route": route, **given} if route else given


def request(msgid: int, method: str, params: list[Any], pack: rpc.Pack | None = None) -> bytes:
    """A call, packed. Raises TypeError for what MessagePack has no form for. `pack`: a packer of one thread's."""
    try:
        return rpc.request(msgid, method, params, pack)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{method}: a value cannot travel: {error}") from None


def waits(given: dict[str, Any]) -> None:
    """Raise TypeError for a query whose reply would not come as its response."""
    if given.get("suspend") == 0:
        raise TypeError("suspend=0: use send(), which does not wait")


def params(item: Item) -> list[Any]:
    """The params of `query` for one item of `query_many`. Raises TypeError for anything else."""
    if isinstance(item, str):
        return [item]
    if len(item) == 2 and type(item[1]) is str:
        return [item[0], {"route": item[1]}]
    url, *rest = item or (None,)
    route = rest.pop(0) if rest and isinstance(rest[0], str) else ""
    given = rest.pop(0) if rest else {}
    if not isinstance(url, str) or not isinstance(given, dict) or rest:
        raise TypeError(f"{item!r}: a URL, (URL, route), (URL, options) or (URL, route, options) would be right")
    waits(given)
    return [url, options(route, given)]


def many(queries: Iterable[Item]) -> Iterator[Item]:
    """The items of `query_many`. Raises TypeError for a URL alone, of which each letter would be one."""
    if isinstance(queries, str):
        raise TypeError("queries: a text is wrong: a list of URLs would be right")
    return iter(queries)


def ended(message: Any) -> tuple[int, Any, Any]:
    """`(msgid, error, result)` of a response. Raises what the daemon said of the whole connection."""
    if type(message) is not list or len(message) != 4 or message[0] != rpc.RESPONSE:
        raise ProtocolError(f"not a response: {str(message)[:60]}")
    _, msgid, error, result = message
    if msgid is None:
        raise from_wire(error)
    return msgid, error, result


def ends_connection(error: Any) -> bool:
    """Whether the daemon hears no more of the connection after this error: it lost the framing."""
    return isinstance(error, dict) and error.get("code") == TOO_LARGE


def refused(error: Any, index: int) -> Reply:
    """What stands for a query of many that the daemon refused: `code` -1, and in `err` why."""
    refusal = error if isinstance(error, Refused) else from_wire(error)
    return Reply({"ok": 0, "code": REFUSED, "err": str(refusal)}, index)
