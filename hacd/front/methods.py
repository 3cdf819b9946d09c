"""The calls of the wire other than `query` and `send` that anybody may make."""

from __future__ import annotations

import os
from collections.abc import Callable
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from hacd import __version__
from hacd.errors import BadRequest, shown
from hacd.expansion import check_vars
from hacd.front import admin
from hacd.front.access import is_admin
from hacd.front.admin import none
from hacd.front.figures import figures
from hacd.outcome import ABORTED
from hacd.query import check_route, redacted

if TYPE_CHECKING:
    from hacd.front.owner import Owner
    from hacd.front.sessions import Session


#: rows of `transactions`, and characters of a URL in it
LISTED = 1000
URL_SHOWN = 256

#: routes that one connection may register for
ROUTES_MAX = 256


def ping(session: Session, params: list[Any]) -> dict[str, Any]:
    """That the front is there."""
    none("ping", params)
    front = session.front
    return {"version": __version__, "pid": os.getpid(), "uptime_ms": front.uptime(), "activated": front.activated}


def hello(session: Session, params: list[Any]) -> dict[str, Any]:
    """What a caller may want to know before its first query, and what the daemon may know of the caller.

    `descriptors`: he takes those of bodies in shared memory; `arenas`: also of memory in which body after body comes.
    Options of later versions are not minded.
    """
    if len(params) > 1 or (params and type(params[0]) is not dict):
        raise BadRequest("hello: params: [{options}] would be right")
    options = params[0] if params else {}
    takes = {name: options.get(name, had) for name, had in session.takes().items()}
    for name, value in takes.items():
        if type(value) is not bool:
            raise BadRequest(f"hello: {name}: {shown(value)} is wrong: true or false would be right")
    session.takes_as(**takes)
    limits = session.front.settings.limits
    return {
        "server": "hacd",
        "version": __version__,
        "pid": os.getpid(),
        "methods": sorted(NAMES),
        "max_frame": limits.max_frame,
        "max_client_in_flight": limits.max_client_in_flight,
        **session.takes(),
    }


def stats(session: Session, params: list[Any]) -> dict[str, Any]:
    """The counters."""
    none("stats", params)
    return figures(session.front)


def transactions(session: Session, params: list[Any]) -> list[dict[str, Any]]:
    """The LISTED oldest transactions in flight, the oldest first. A caller sees those of its own user."""
    none("transactions", params)
    front = session.front
    now = front.read_clock()
    seen = (transaction for transaction in front.transactions if _may_see(session, transaction.session))
    return [
        {
            "id": front.public_id(transaction.id),
            "url": redacted(transaction.url)[:URL_SHOWN],
            "route": transaction.route,
            "age_ms": (now - transaction.started) // 1_000_000,
            "worker": transaction.worker.number if transaction.worker else 0,
        }
        for transaction in nsmallest(LISTED, seen, key=lambda transaction: transaction.started)
    ]


def cancel(session: Session, params: list[Any]) -> bool:
    """End a transaction of the caller's user; its caller gets an error outcome, code 42.

    A caller who waits for a suspended query does not know its id yet: a number means the query
    that this connection sent under that msgid.
    """
    if len(params) != 1 or type(params[0]) not in (str, int):
        raise BadRequest("cancel: params: [id] would be right, with the id as `send` gave it")
    front = session.front
    wanted = params[0]
    if type(wanted) is int:
        if wanted in session.runs:
            session.runs[wanted].call_off("its caller called it off")
            return True
        transaction = session.transactions.get(wanted) if wanted >= 0 else None
    else:
        transaction = front.find(wanted)
    if transaction is None:
        return False
    if not _may_see(session, transaction.session):
        owner = transaction.session.peer
        front.complaints.warning("caller %s: cancel refused: the transaction is uid %d's", session.peer, owner.uid)
        return False
    front.abort(transaction, ABORTED, "cancelled")
    return True


def register(session: Session, params: list[Any]) -> bool:
    """From now on this connection takes, in turn with others, the replies of unsuspended queries of these routes."""
    right = f"register: params: [[route, …]] would be right, of at most {ROUTES_MAX} routes for a connection"
    if len(params) != 1 or type(params[0]) is not list:
        raise BadRequest(right)
    routes = {check_route(route) for route in params[0]}
    registry = session.front.registry
    if len(registry.routes(session) | routes) > ROUTES_MAX:
        raise BadRequest(right)
    registry.add(session, routes)
    return True


def run(params: Any) -> tuple[str, dict[str, Any]]:
    """Route and variables of a `run`. Raises BadRequest."""
    if type(params) is not list or not 1 <= len(params) <= 2 or type(params[0]) is not str:
        raise BadRequest("run: params: [route, {vars}] would be right")
    return params[0], check_vars(params[1] if len(params) == 2 else None) or {}


def _may_see(session: Session, owner: Owner) -> bool:
    return session.peer.uid == owner.peer.uid or is_admin(session.peer)


METHODS: dict[str, Callable[[Session, list[Any]], Any]] = {
    "ping": ping,
    "hello": hello,
    "stats": stats,
    "transactions": transactions,
    "cancel": cancel,
    "register": register,
    **admin.METHODS,
}

#: of a caller's budget for one turn of the loop, where a call costs more than others
COSTS = {"transactions": 64, "tail": 64}

NAMES = ("query", "send", "run", *METHODS)
