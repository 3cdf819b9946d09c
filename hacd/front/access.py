"""Who may call, and by which rules what he asks for is judged. No socket and no clock.

Law: names are looked up when the settings are taken, never when somebody calls. Root and the daemon's own user may
always call: they may stop the daemon, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from hacd import log
from hacd.front.owner import Peer
from hacd.remember import remember
from hacd.rpc import pack, unpack
from hacd.settings import Settings, lists

#: callers, and shapes of queries, whose rules are remembered
REMEMBERED = 4096


def is_admin(peer: Peer) -> bool:
    """Whether that is root or the daemon's own user."""
    return peer.uid in _admins()


def is_over(uid: int, owner: int) -> bool:
    """Whether that user may see, end and take what is the owner's: his own is everybody's, and all is an admin's."""
    return uid == owner or uid in _admins()


def those_over(owner: int) -> tuple[int, ...]:
    """The users of whom that is so."""
    return owner, *_admins()


def _admins() -> tuple[int, int]:
    return 0, os.geteuid()


class Access:
    """Who may call: everybody who can, unless `allow_users` or `allow_groups` says who."""

    def __init__(self, settings: Settings) -> None:
        hacd = settings.hacd
        self._everybody = not (hacd.allow_users or hacd.allow_groups)
        self._users = frozenset(_numbers("hacd.allow_users", hacd.allow_users, lists.uid))
        self._groups = frozenset(_numbers("hacd.allow_groups", hacd.allow_groups, lists.gid))

    def admits(self, peer: Peer) -> bool:
        """Whether he may."""
        return self._everybody or peer.uid in self._users or not self._groups.isdisjoint(peer.groups) or is_admin(peer)


class RulesByUser:
    """Which rules of `[egress.users]` and `[egress.groups]` a query has; the worker that carries it out knows them."""

    def __init__(self, settings: Settings) -> None:
        egress = settings.egress
        self._users = dict(_named("users", egress.users, lists.uid))
        self._groups = list(_named("groups", egress.groups, lists.gid))
        self._known: dict[tuple[int, tuple[int, ...]], str] = {}
        self._shapes: dict[tuple[str, bytes], bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._users or self._groups)

    def name(self, peer: Peer) -> str:
        """The rules for what he asks: his own, else those of the first group that he is in, else "", the general."""
        key = peer.uid, peer.groups
        known = self._known.get(key)
        if known is None:
            by_group = (name for gid, name in self._groups if gid in peer.groups)
            known = remember(self._known, key, self._users.get(peer.uid) or next(by_group, ""), REMEMBERED)
        return known

    def shape(self, peer: Peer, shape: bytes) -> bytes:
        """The shape of a query of his, with the name of his rules; a caller cannot give that option himself."""
        name = self.name(peer)
        if not name:
            return shape
        found = self._shapes.get((name, shape))
        if found is None:
            options = unpack(shape) if shape else {}
            found = remember(self._shapes, (name, shape), pack({**options, "egress": name}), REMEMBERED)
        return found


def _named(kind: str, rules: Iterable[str], number: Callable[[str], int]) -> Iterable[tuple[int, str]]:
    for name in rules:
        for found in _numbers(f"egress.{kind}", [name], number):
            yield found, f"{kind}.{name}"


def _numbers(setting: str, names: Iterable[str], number: Callable[[str], int]) -> Iterable[int]:
    """The numbers of names. They were judged when the settings were read; what has gone since is nobody."""
    for name in names:
        try:
            yield number(name)
        except ValueError:
            log.error("%s: %s is gone: it stands for nobody", setting, name)
