"""`set` and `reload` where there are several fronts: a change is made by each of them, or by none.

First each judges it, this one before all others; then each makes it. One that is gone is not waited for: its
successor begins with what is in force by then. One that is there and does not answer in time keeps the change from
being made.

Law: one change at a time. Who wants another meanwhile is told so.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hacd import log
from hacd.errors import BUSY, Refused, from_wire
from hacd.front.peers.later import Later
from hacd.front.peers.link import SILENT, PeerLink
from hacd.front.peers.questions import Answer

if TYPE_CHECKING:
    from hacd.front.control import Change
    from hacd.front.peers.peers import Peers

#: ms that a front gets to judge, and to make, a change
LIMIT = 2000


class Changes:
    """Those that this front is asked for by its callers, and the one that it takes part in."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._under_way: object | None = None  # whose change it is

    def begin(self, whose: object) -> None:
        """Raise Refused where another is under way."""
        if self._under_way is not None:
            raise Refused(BUSY, "another set or reload is under way: to try again would be right")
        self._under_way = whose

    def end(self, whose: object) -> None:
        """It is made, or will not be."""
        if self._under_way is whose:
            self._under_way = None

    def change(self, method: str, params: list[Any], who: str) -> Later:
        """Have all fronts make it. Raises Refused where it is wrong."""
        control = self._peers.front.control
        later = Later()
        self.begin(later)
        try:
            params = control.whole(method, params)
            change = control.judge(method, params)
        except BaseException:
            self.end(later)
            raise
        # To load routes takes a front its time.
        limit = max(LIMIT, self._peers.front.settings.hacd.front_timeout) if change.made.loads else LIMIT
        judged = partial(self._judged, later, change, who)
        self._peers.ask_each(self._peers.up, "judge", [method, params], judged, limit)
        return later

    def _judged(self, later: Later, change: Change, who: str, answers: list[tuple[PeerLink, Answer]]) -> None:
        for link, answer in answers:
            if answer.error is None and answer.missing != SILENT:
                continue
            for other, _ in answers:
                other.tell("keep", [])
            self.end(later)
            if answer.error is not None:
                later.give(None, from_wire(answer.error))
            else:
                later.give(None, Refused(BUSY, f"{change.method}: front {link.number} {SILENT}: nothing is changed"))
            return
        links = [link for link, answer in answers if answer.result is True]
        version = self._peers.front.control.version + 1
        self._peers.ask_each(links, "change", [who, version], partial(self._made, later, change, who, version), LIMIT)

    def _made(
        self, later: Later, change: Change, who: str, version: int, answers: list[tuple[PeerLink, Answer]]
    ) -> None:
        """The others have made it, or will before they do anything else."""
        for link, answer in answers:
            if answer.missing:
                log.warning(
                    "%s: front %d %s: it makes the change when it does", change.method, link.number, answer.missing
                )
        self.end(later)
        later.give(self._peers.front.control.make(change, who, version=version))
