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
from hacd.front.access import is_over
from hacd.front.admin import none
from hacd.front.figures import figures
from hacd.front.routing.transaction import RoutedTransaction
from hacd.outcome import ABORTED
from hacd.query import check_route, redacted

if TYPE_CHECKING:
    from hacd.front.front import Front
    from hacd.front.owner import Peer
    from hacd.front.peers.later import Later
    from hacd.front.sessions import Session
    from hacd.front.transactions import Transaction


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
    takes = {name: options.get(name, had) for name, had in session.long_bodies.takes().items()}
    for name, value in takes.items():
        if type(value) is not bool:
            raise BadRequest(f"hello: {name}: {shown(value)} is wrong: true or false would be right")
    session.take_as(**takes)
    limits = session.front.settings.limits
    return {
        "server": "hacd",
        "version": __version__,
        "pid": os.getpid(),
        "methods": sorted(NAMES),
        "max_frame": limits.max_frame,
        "max_client_in_flight": limits.max_client_in_flight,
        **session.long_bodies.takes(),
    }


def stats(session: Session, params: list[Any]) -> dict[str, Any] | Later:
    """The counters, of all fronts."""
    none("stats", params)
    front = session.front
    return figures(front) if front.peers is None else front.peers.stats()


def transactions(session: Session, params: list[Any]) -> list[dict[str, Any]] | Later:
    """The LISTED oldest transactions in flight, the oldest first. A caller sees those of its own user."""
    none("transactions", params)
    front, peer = session.front, session.peer
    return transactions_for(front, peer) if front.peers is None else front.peers.transactions(peer)


def transactions_for(front: Front, peer: Peer) -> list[dict[str, Any]]:
    """Those of this front that he may see."""
    now = front.read_clock()
    seen = (transaction for transaction in front.transactions if is_over(peer.uid, transaction.session.peer.uid))
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


def cancel(session: Session, params: list[Any]) -> bool | Later:
    """End a transaction of the caller's user; its caller gets an error outcome, code 42.

    A caller who waits for a suspended query does not know its id yet: a number means the query
    that this connection sent under that msgid.
    """
    if len(params) != 1 or type(params[0]) not in (str, int):
        raise BadRequest("cancel: params: [id] would be right, with the id as `send` gave it")
    front = session.front
    wanted = params[0]
    if type(wanted) is str:
        return (
            cancel_for(front, session.peer, wanted) if front.peers is None else front.peers.cancel(session.peer, wanted)
        )
    run = session.runs.get(wanted)
    if isinstance(run, RoutedTransaction):
        run.call_off("its caller called it off")
        return True
    transaction = session.transactions.get(wanted) if wanted >= 0 else None
    return transaction is not None and _cancel(front, session.peer, transaction)


def cancel_for(front: Front, peer: Peer, id_: str) -> bool:
    """End a transaction of this front for him, if it is his."""
    transaction = front.find(id_)
    return transaction is not None and _cancel(front, peer, transaction)


def _cancel(front: Front, peer: Peer, transaction: Transaction) -> bool:
    if not is_over(peer.uid, transaction.session.peer.uid):
        owner = transaction.session.peer
        front.complaints.warning("caller %s: cancel refused: the transaction is uid %d's", peer, owner.uid)
        return False
    front.abort(transaction, ABORTED, "cancelled")
    return True


def register(session: Session, params: list[Any]) -> bool:
    """From now on this connection takes, in turn with others, the replies of unsuspended queries of these routes."""
    right = f"register: params: [[route, …]] would be right, of at most {ROUTES_MAX} routes for a connection"
    if len(params) != 1 or type(params[0]) is not list:
        raise BadRequest(right)
    routes = {check_route(route) for route in params[0]}
    front = session.front
    if len(front.registry.routes(session) | routes) > ROUTES_MAX:
        raise BadRequest(right)
    more = front.delivery.register(session, routes)
    if more and front.peers is not None:
        front.peers.registered(session, more)
    return True


def run(params: Any) -> tuple[str, dict[str, Any]]:
    """Route and variables of a `run`. Raises BadRequest."""
    if type(params) is not list or not 1 <= len(params) <= 2 or type(params[0]) is not str:
        raise BadRequest("run: params: [route, {vars}] would be right")
    return params[0], check_vars(params[1] if len(params) == 2 else None) or {}


METHODS: dict[str, Callable[[Session, list[Any]], Any]] = {
    "ping": ping,
    "hello": hello,
    "stats": stats,
    "transactions": transactions,
    "cancel": cancel,
    "register": register,
    **admin.METHODS,
}

#: those whose answers come later than the calls, where there are other fronts to ask
LATER = frozenset(("stats", "transactions", "cancel", "set", "reload"))

#: of a caller's budget for one turn of the loop, where a call costs more than others
COSTS = {"transactions": 64, "tail": 64}

NAMES = ("query", "send", "run", *METHODS)
