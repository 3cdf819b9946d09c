"""What one other front is offered: so many replies at a time, each with its ticket. What is more waits here.

Law: an offer is at one place: open or waiting in one box, or on its way to the next (`Offers`). No front counts as
asked before it was: a reply for which no descriptor is left waits for one, since that front may be the only one to
take it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hacd.front.access import is_over, those_over
from hacd.front.peers.link import SILENT, PeerLink
from hacd.front.peers.offer import Offer, Search, claim
from hacd.loop import Timer

if TYPE_CHECKING:
    from hacd.front.peers.offers import Offers
    from hacd.front.peers.questions import Answer

#: ms that another front gets to take one
LIMIT = 1000

#: s until a ticket is made again, when no descriptor was left for one; and for how long, ns, a sender waits who is here
RETRY, SHORTAGE = 0.05, 1_000_000_000


class RemoteTaker:
    """A caller at another front who registered."""

    def __init__(self, box: Box, uid: int) -> None:
        self.box = box
        self.uid = uid

    def may_take_from(self, search: Search) -> bool:
        """Where that front can be asked, what `is_over` says."""
        return self.box.is_for(search) and is_over(self.uid, search.peer.uid)


class Box:
    """That of the front at the other end of `link`, which has so many `tickets`."""

    def __init__(self, link: PeerLink, offers: Offers, tickets: int, retry: Timer) -> None:
        self.link = link
        self.open: set[Offer] = set()
        self.waiting: deque[Offer] = deque()
        self._offers = offers
        self._tickets = tickets
        self._takers: Counter[tuple[str, int]] = Counter()  # there, by route and user
        self._retry = retry
        self._short_since = 0  # ns; no descriptor has been left since then
        self._pauses = False  # until `_retry`, or until a descriptor is let go of

    # -- who is there

    def count(self, taker: RemoteTaker, routes: Iterable[str], more: int) -> None:
        """One more, or one less, has registered there for these."""
        for route in routes:
            key = route, taker.uid
            self._takers[key] += more
            if not self._takers[key]:
                del self._takers[key]

    def is_for(self, search: Search) -> bool:
        """Whether that front can be asked."""
        link = self.link
        return link.up and (search.silent or not link.silent) and self not in search.tried

    def has_taker(self, route: str, search: Search) -> bool:
        """Whether somebody there may take a reply of that route."""
        takers = self._takers
        return self.is_for(search) and any((route, uid) in takers for uid in those_over(search.peer.uid))

    # -- out

    @property
    def ready(self) -> bool:
        """Whether one that waits can be offered now."""
        return bool(self.waiting) and len(self.open) < self._tickets and not self._pauses

    def offer(self, offer: Offer) -> None:
        """Ask that front, as soon as there is a ticket."""
        if len(self.open) >= self._tickets or self.waiting:
            self.waiting.append(offer)
        else:
            self._ask(offer)

    def go_on(self) -> None:
        """Tickets that are free serve those that wait."""
        for _ in range(min(self._tickets - len(self.open), len(self.waiting))):
            if self._pauses:
                return
            offer, link = self.waiting.popleft(), self.link
            if not link.up or (link.silent and self._offers.has_next(offer)):
                self._offers.go_on_with(offer)
            else:
                self._ask(offer)

    def _ask(self, offer: Offer) -> None:
        try:
            theirs = offer.make_ticket()
        except OSError:
            self.waiting.appendleft(offer)
            self._pause()
            return
        self._short_since = 0
        offer.tried.add(self)
        self.open.add(offer)
        params = [offer.route, offer.peer.uid, offer.outcome, offer.tail]
        self.link.ask(
            "take",
            params,
            lambda answer: self._ended(offer, answer),
            LIMIT,
            theirs,
            lambda: self._may_end(offer),
        )

    def _pause(self) -> None:
        self._pauses = True
        self._short_since = self._short_since or time.monotonic_ns()
        self._retry.start(self._try_again, RETRY, 0)

    def _try_again(self, _timer: Any) -> None:
        self._pauses = False
        if not self.waiting:  # they have gone on without a ticket
            self._short_since = 0
        if self._short_since and time.monotonic_ns() - self._short_since > SHORTAGE:
            waiting = list(self.waiting)
            self.waiting = deque(offer for offer in waiting if not offer.here)
            for offer in waiting:
                if offer.here:
                    self._offers.give_here(offer)
        self._offers.go_on_soon()

    # -- how it ended

    def _may_end(self, offer: Offer) -> bool:
        """Its time is over. Whether it is not being given to somebody at this moment, and there is a next."""
        return offer not in self.open or (self._offers.has_next(offer) and claim(offer.ticket))

    def _ended(self, offer: Offer, answer: Answer) -> None:
        if offer not in self.open:
            return
        lost = answer.missing not in ("", SILENT) and not claim(offer.ticket)
        self._close(offer)
        if answer.result is True or lost:
            self._offers.done(offer)
            self._offers.go_on_soon()
        else:
            self._offers.go_on_with(offer)

    def _close(self, offer: Offer) -> None:
        self.open.discard(offer)
        offer.tear()
        self._pauses = False

    def fell_silent(self) -> None:
        """What waits goes on: its sender may be here, and not wait as long as others."""
        for offer in self.waiting:
            self._offers.go_on_with(offer)
        self.waiting.clear()

    def take_back(self) -> list[Offer]:
        """Those that nobody has claimed: they are offered no more."""
        back = [offer for offer in self.open if claim(offer.ticket)]
        for offer in back:
            self._close(offer)
        back += self.waiting
        self.waiting.clear()
        return back
