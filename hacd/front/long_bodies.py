"""How one caller takes long bodies: as bytes, as descriptors, or, once he has had some, in arenas of his own.

Law: a body that is given to him is let go of once, whether it was sent, came back, or he has gone.
"""

from __future__ import annotations

from typing import Any

from hacd import rpc
from hacd.arena import COMMON, FILE, Block
from hacd.channel import Channel
from hacd.front.borrowing import OFTEN, Borrower, Borrowers, LentBlock
from hacd.outcome import Held
from hacd.shared import Shared


class LongBodies:
    """Those of one caller. `into` is what his jobs say of it: COMMON, FILE, or the number of his arenas."""

    __slots__ = ("_arenas", "_borrower", "_borrowers", "_channel", "_descriptors", "_given", "into")

    def __init__(self, channel: Channel, borrowers: Borrowers) -> None:
        self.into = COMMON
        self._channel = channel
        self._borrowers = borrowers
        self._borrower: Borrower | None = None
        self._descriptors = self._arenas = False  # what he takes, as he said
        self._given = 0  # bodies, but for those that were lent

    def takes(self) -> dict[str, bool]:
        """What he said of himself."""
        return {"descriptors": self._descriptors, "arenas": self._arenas}

    def take_as(self, descriptors: bool, arenas: bool) -> None:
        """What he takes from now on. An arena that he has, he keeps."""
        self._descriptors, self._arenas = descriptors, arenas and descriptors
        if self._borrower is not None and self._arenas:
            self.into = self._borrower.number
        else:
            self.into = FILE if descriptors else COMMON

    def give(self, head: bytes, held: Held, tail: bytes) -> None:
        """Send a reply whose body is in shared memory: where it lies, or its descriptor, or its bytes."""
        body = held.body
        if isinstance(body, LentBlock):
            self._lend(head, held, tail, body)
            return
        assert isinstance(body, Shared | Block)
        self._given += 1
        if self._given >= OFTEN and self._arenas and self._borrower is None and not self._channel.closed:
            self._borrower = self._borrowers.add(self._channel)
            self.into = self._borrower.number
        if isinstance(body, Shared) and self._descriptors and self._channel.may_pass(body.size):
            self._channel.pass_on(body, head, held.begin, rpc.body_ext(body.size), held.rest, tail)
        else:
            self._channel.splice(head + held.begin + rpc.bin_head(body.size), body, held.rest + tail)

    def _lend(self, head: bytes, held: Held, tail: bytes, body: LentBlock) -> None:
        if self._borrower is None or self._channel.closed:
            body.release()
        else:
            self._channel.send(head, held.begin, self._borrower.lend(body), held.rest, tail)

    def returned(self, params: list[Any]) -> None:
        """He has read the bodies that were lent to him at these places. Raises BadRequest."""
        if self._borrower is not None:
            self._borrower.returned(params)

    def gone(self) -> None:
        """He is."""
        if self._borrower is not None:
            self._borrowers.remove(self._borrower)
