"""A connection past the bounds: for root and the daemon's user, who want to look or to stop.

Law: nothing is sent, entered or taken over it, or the reserve would soon be as full as the rest.
"""

from __future__ import annotations

from typing import Any

from hacd.channel import Channel
from hacd.errors import Refused
from hacd.front.front import Front
from hacd.front.owner import Peer
from hacd.front.sessions import COST, Session


class Reserved(Session):
    """Answers what steers and shows. Anything else ends it with `why` it is not like others."""

    reserved = True

    def __init__(self, front: Front, channel: Channel, peer: Peer, why: Refused) -> None:
        super().__init__(front, channel, peer)
        self._why = why

    def _query(self, msgid: int, params: Any) -> None:
        self._turn_away(msgid)

    def send(self, msgid: int | None, params: Any) -> None:
        """Nothing is sent."""
        self._turn_away(msgid)

    def _run(self, msgid: int | None, params: Any) -> None:
        self._turn_away(msgid)

    def _call(self, msgid: int, method: Any, params: Any) -> int:
        if method == "register":
            self._turn_away(msgid)
            return COST
        return super()._call(msgid, method, params)

    def _turn_away(self, msgid: int | None) -> None:
        self._refuse(msgid, self._why)
        self.channel.close_when_sent()
