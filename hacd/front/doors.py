"""How many may come in, in all and of one user, and what one user may have in flight. No socket and no clock.

Law: no user is exempt, root and the daemon's own neither. But those two can always look and stop: past the bounds they
get one of RESERVED connections, on which nothing but that is done (`reserve.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from hacd.errors import BUSY, Refused
from hacd.front.access import is_admin
from hacd.front.owner import Peer
from hacd.settings.table import Limits

#: connections of root and of the daemon's user past `max_clients` and `max_user_clients`
RESERVED = 8


class Shares:
    """How many of one kind each user has, where `limit` is the most; 0: any number."""

    def __init__(self, limit: int = 0, uids: Iterable[int] = ()) -> None:
        self.limit = limit
        self._of: dict[int, int] = {}
        for uid in uids:
            self.enter(uid)

    def full(self, uid: int) -> bool:
        """Whether he may have no more."""
        return 0 < self.limit <= self._of.get(uid, 0)

    def enter(self, uid: int) -> None:
        """He has one more."""
        self._of[uid] = self._of.get(uid, 0) + 1

    def take(self, uid: int) -> bool:
        """One more for him, if he may have it."""
        if self.full(uid):
            return False
        self.enter(uid)
        return True

    def leave(self, uid: int) -> None:
        """He has one less."""
        left = self._of[uid] - 1
        if left:
            self._of[uid] = left
        else:
            del self._of[uid]


def counted(shares: Shares | None, limit: int, uids: Iterable[int]) -> Shares | None:
    """So many transactions a user may have from now on: `uids` have one each. Counted only where that is set."""
    if not limit:
        return None
    if shares is None:
        return Shares(limit, uids)
    shares.limit = limit
    return shares


class Guest(Protocol):
    """What has to be known of a connection."""

    peer: Peer
    #: one of RESERVED
    reserved: bool


class Doors:
    """Counts the connections of callers."""

    def __init__(self) -> None:
        self._most = 0
        self._inside = 0  # without those in the reserve
        self._reserved = 0
        self._users = Shares()

    def configure(self, limits: Limits) -> None:
        """These bounds hold for who comes from now on."""
        self._most = limits.max_clients
        self._users.limit = limits.max_user_clients

    def judge(self, peer: Peer) -> Refused | None:
        """Why he is not let in like anybody; None: he is. Raises that where there is no place in the reserve either."""
        if self._inside >= self._most:
            why = f"max_clients ({self._most}) are connected"
        elif self._users.full(peer.uid):
            why = f"max_user_clients ({self._users.limit}) of uid {peer.uid} are connected"
        else:
            return None
        refusal = Refused(BUSY, why)
        if self._reserved < RESERVED and is_admin(peer):
            return refusal
        raise refusal

    def enter(self, guest: Guest) -> None:
        """He is in."""
        if guest.reserved:
            self._reserved += 1
        else:
            self._inside += 1
            self._users.enter(guest.peer.uid)

    def leave(self, guest: Guest) -> None:
        """He has gone."""
        if guest.reserved:
            self._reserved -= 1
        else:
            self._inside -= 1
            self._users.leave(guest.peer.uid)
