"""When a front that drains may go, where callers have registered with it: another may still have a reply for them.

Law: while the daemon ends, such a front goes when no other has anything of which a reply can come. One that ends alone
(SIGTERM to it) waits for nobody: the others stay, and so do the senders.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hacd.front.peers.link import Answer, PeerLink

if TYPE_CHECKING:
    from hacd.front.peers.peers import Peers

#: ns until a front that was told nothing else ends alone: SIGTERM to all comes before the supervisor's word
ALONE = 100_000_000

#: ms that another front gets to say whether it has something left
LIMIT = 1000


class Parting:
    """`may_go` is asked again and again; `all_end`: the supervisor has said that the daemon does."""

    def __init__(self, peers: Peers) -> None:
        self.all_end = False
        self._peers = peers
        self._began = 0
        self._asking = False
        self._nobody = False  # had anything left

    def may_go(self) -> bool:
        """Whether nothing can come for those who registered here. To be asked when this front itself has drained."""
        front = self._peers.front
        if front.ending or next(front.registry.all(), None) is None:
            return True
        if not self.all_end:
            now = time.monotonic_ns()
            self._began = self._began or now
            return now - self._began > ALONE
        if not self._nobody and not self._asking:
            self._asking = True
            links = [link for link in self._peers.links.values() if link.up]
            self._peers.ask_each(links, "unfinished", [], self._answered, LIMIT)
        return self._nobody

    def _answered(self, answers: list[tuple[PeerLink, Answer]]) -> None:
        self._asking = False
        self._nobody = not any(answer.result is True for _, answer in answers)
