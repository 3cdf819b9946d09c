"""The calls that steer the daemon. They are for root and the daemon's own user alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hacd.errors import FORBIDDEN, BadRequest, Refused
from hacd.front.access import is_admin
from hacd.front.tail import parse

if TYPE_CHECKING:
    from hacd.front.peers.later import Later
    from hacd.front.sessions import Session


def _admin(session: Session, method: str) -> str:
    """Who it is, for the log. Raises Refused for anybody else."""
    peer = session.peer
    if not is_admin(peer):
        session.front.complaints.warning(
            "caller %s: %s refused: it is for root and the daemon's own user", peer, method
        )
        raise Refused(FORBIDDEN, f"{method} is for root and the daemon's own user, not for uid {peer.uid}")
    return str(peer)


def stop(session: Session, params: list[Any]) -> bool:
    """Drain and end, as on SIGTERM."""
    _admin(session, "stop")
    none("stop", params)
    session.front.ask_stop()
    return True


def set_(session: Session, params: list[Any]) -> bool | Later:
    """Change one setting while the daemon runs."""
    who = _admin(session, "set")
    if len(params) != 2 or type(params[0]) is not str:
        raise BadRequest("set: params: [name, value] would be right")
    front = session.front
    if front.peers is None:
        return front.control.set(params[0], params[1], who)
    return front.peers.changes.change("set", params, who)


def reload(session: Session, params: list[Any]) -> dict[str, list[str]] | Later:
    """Read the settings again, as on SIGHUP."""
    who = _admin(session, "reload")
    none("reload", params)
    front = session.front
    return front.control.reload(who) if front.peers is None else front.peers.changes.change("reload", [], who)


def tail(session: Session, params: list[Any]) -> list[dict[str, Any]]:
    """The last lines of the log, of all processes; with `follow`, further ones come as notifications `log`."""
    _admin(session, "tail")
    wanted = parse(params)
    log = session.front.tail
    if wanted.follow:
        log.follow(session.channel, wanted)
    return log.last(wanted)


def none(method: str, params: list[Any]) -> None:
    """Raise BadRequest where a method that takes no params got some."""
    if params:
        raise BadRequest(f"{method}: params: [] would be right")


METHODS = {"stop": stop, "set": set_, "reload": reload, "tail": tail}
