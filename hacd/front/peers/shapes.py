"""What fronts ask, answer and tell each other, as it has to look. Plain code: no socket, no clock.

Law: it is judged here, before anything is done with it. So what raises behind this door is a defect of our own, and is
seen as one; what is wrong in front of it costs the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hacd import rpc
from hacd.errors import ProtocolError
from hacd.log.entry import Entry
from hacd.settings.live import restore

#: what a front can be asked, and told, and the types of its parameters
PARAMS: dict[str, tuple[type, ...]] = {
    "figures": (),
    "unfinished": (),
    "transactions": (int,),
    "cancel": (str, int, int),
    "judge": (str, list),
    "change": (str, int),
    "keep": (),
    "take": (str, int, bytes, bytes),
    "registered": (int, int, list),
    "left": (int,),
    "log": (dict,),
}

#: those of them that it is told, and which nobody waits for
TOLD = frozenset(("keep", "registered", "left", "log"))


def question_of(message: Any) -> tuple[int | None, str, list[Any]]:
    """Msgid, method and params of what a front is asked; a msgid of None: of what it is told. Raises ProtocolError."""
    if type(message) is list and len(message) == 4 and message[0] == rpc.REQUEST and type(message[1]) is int:
        _, msgid, method, params = message
    elif type(message) is list and len(message) == 3 and message[0] == rpc.NOTIFICATION:
        msgid, (_, method, params) = None, message
    else:
        raise ProtocolError("what is no question")
    _judge_params(method, params, msgid is None)
    return msgid, method, params


def _judge_params(method: Any, params: Any, told: bool) -> None:
    wanted = PARAMS.get(method) if type(method) is str else None
    known = wanted is not None and (method in TOLD) is told
    if not known or type(params) is not list or tuple(map(type, params)) != wanted:
        raise ProtocolError("what is no question of a front's")
    more = _MORE.get(method)
    if more is not None and not more(*params):
        raise ProtocolError(f"{method}: what no front asks")


def _change(method: str, params: list[Any]) -> bool:
    if method == "set":
        return len(params) == 2 and type(params[0]) is str
    return method == "reload" and len(params) == 1 and type(params[0]) is bytes and _restorable(params[0])


def _restorable(data: bytes) -> bool:
    try:
        restore(data)
    except ValueError:
        return False
    return True


def _registration(_number: int, _uid: int, routes: list[Any]) -> bool:
    return all(type(route) is str for route in routes)


#: the types of what an event has
_EVENT = {"time": str, **{name: int if name == "pid" else str for name in Entry._fields[1:]}}


def _event(event: dict[Any, Any]) -> bool:
    if event.keys() != _EVENT.keys() or any(type(event[name]) is not type_ for name, type_ in _EVENT.items()):
        return False
    try:
        Entry.of(event).as_map()
    except (ValueError, OverflowError):  # a time that is none
        return False
    return True


_MORE: dict[str, Callable[..., bool]] = {"judge": _change, "registered": _registration, "log": _event}


def judge_result(method: str, result: Any) -> None:
    """Raise ProtocolError where that answers no such question."""
    if not _RESULTS.get(method, _yes_or_no)(result):
        raise ProtocolError(f"{method}: what is no answer")


def judge_error(error: Any) -> None:
    """Raise ProtocolError where that is no refusal."""
    if type(error) is not dict or not all(type(error.get(name)) is str for name in ("code", "message")):
        raise ProtocolError("what is no error")


def prefix_of(params: Any) -> str:
    """Of the ids of a front that introduces itself. Raises ProtocolError."""
    value = params[0] if type(params) is list and len(params) == 1 else None
    prefix = value.get("prefix") if type(value) is dict else None
    if type(prefix) is not str or not prefix:
        raise ProtocolError("who does not say who it is")
    return prefix


def is_response(message: Any) -> bool:
    """Whether that is the answer to some question."""
    return type(message) is list and len(message) == 4 and message[0] == rpc.RESPONSE and type(message[1]) is int


def _yes_or_no(result: Any) -> bool:
    return type(result) is bool


def _figures(result: Any) -> bool:
    return (
        type(result) is dict
        and type(result.get("uptime_ms")) is int
        and _rows(result.get("workers"), "worker")
        and _rows(result.get("fronts"), "front")
    )


def _rows(rows: Any, number: str) -> bool:
    """Whether each is counts by name, a number and perhaps a state among them."""
    return type(rows) is list and all(
        type(row) is dict
        and type(row.get(number)) is int
        and all(type(value) is (str if name == "state" else int) for name, value in row.items())
        for row in rows
    )


def _transactions(result: Any) -> bool:
    return type(result) is list and all(type(row) is dict and type(row.get("age_ms")) is int for row in result)


_RESULTS: dict[str, Callable[[Any], bool]] = {"figures": _figures, "transactions": _transactions}
