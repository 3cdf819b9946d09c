"""When a front that drains may go, where callers have registered with it: another may still have a reply for them.

Law: while the daemon ends, such a front goes when no other has anything of which a reply can come. One that does not
answer may have something, and is asked again until `drain_timeout` ends all; one that is gone has nothing any more. A
front that ends alone (SIGTERM to it) waits for nobody: the others stay, and so do the senders.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hacd.front.peers.link import SILENT, PeerLink
from hacd.front.peers.questions import Answer

if TYPE_CHECKING:
    from hacd.front.peers.peers import Peers

#: ns until a front that was told nothing else ends alone: SIGTERM to all comes before the supervisor's word
ALONE = 100_000_000

#: ms that another front gets to say whether it has something left
LIMIT = 1000


class Parting:
    """`all_end`: the supervisor has said that the daemon does."""

    def __init__(self, peers: Peers) -> None:
        self.all_end = False
        self._peers = peers
        self._began = 0
        self._asking = False
        self._nobody = False  # has anything left, nor will have

    @property
    def may_go(self) -> bool:
        """Whether nothing can come for those who registered here."""
        front = self._peers.front
        if front.ending or next(front.registry.all(), None) is None or (self.all_end and self._nobody):
            return True
        return not self.all_end and bool(self._began) and time.monotonic_ns() - self._began > ALONE

    def look(self) -> None:
        """Once in a while, from when this front drains on: ask the others what they have, until it is nothing."""
        self._began = self._began or time.monotonic_ns()
        if self.all_end and not self._asking and not self.may_go:
            self._asking = True
            self._peers.ask_each(self._peers.up, "unfinished", [], self._answered, LIMIT)

    def _answered(self, answers: list[tuple[PeerLink, Answer]]) -> None:
        self._asking = False
        self._nobody = not any(answer.result is True or answer.missing == SILENT for _, answer in answers)
