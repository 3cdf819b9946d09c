"""Arenas of callers' own: a worker puts the bodies of one caller there, and he reads them where they are.

Law: a body that was lent is counted until its caller has returned it, or is gone. He can return nothing that he does
not have, and what is in his arena comes to nobody else.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Any

from hacd import rpc
from hacd.arena import FILE
from hacd.errors import BadRequest
from hacd.pieces import MAX_PASSED
from hacd.shared import Shared
from hacd.words import LEFT

if TYPE_CHECKING:
    from hacd.channel import Channel
    from hacd.front.workers import WorkerLink

#: long bodies after which a caller who can borrow does: an arena costs as much as a few files
OFTEN = 8

_RIGHT = "returned: params: [[arena, place], …] would be right, as bodies came"


class LentBlock:
    """A block with a body in it, of an arena of the caller's own: he alone reads it, and the front never does."""

    __slots__ = ("begin", "link", "number", "size")

    def __init__(self, link: WorkerLink, number: int, begin: int, size: int) -> None:
        self.link = link
        self.number = number
        self.begin = begin
        self.size = size

    def release(self) -> None:
        """Its worker may use the block again. To be called once."""
        self.link.returned(self.size, self.number, self.begin)


class Borrower:
    """What one caller has borrowed: arenas, one of each worker that knows him, and the bodies in them."""

    def __init__(self, number: int, channel: Channel) -> None:
        """`number`: his, in jobs."""
        self.number = number
        self._channel = channel
        self._links: dict[int, WorkerLink] = {}  # by their keys, by which he knows their arenas
        self._lent: dict[tuple[int, int], LentBlock] = {}
        self._spare = MAX_PASSED  # arenas that may come, although he has too many descriptors unread

    def arena(self, link: WorkerLink, size: int, fd: int | None) -> None:
        """That worker has made one for him, or uses it no more (no descriptor)."""
        if fd is not None:
            self._links[link.key] = link
            self._spare = MAX_PASSED if self._channel.may_pass(0) else self._spare - 1
            self._channel.pass_on(Shared(fd, 0), rpc.notification("arena", [link.key, size]))
            if not self._spare:
                self._channel.cut_off("does not read: too many descriptors of arenas wait for it")
        elif self._links.pop(link.key, None) is not None:
            self._channel.send(rpc.notification("arena", [link.key, 0]))

    def lend(self, body: LentBlock) -> bytes:
        """What stands for that body in his reply."""
        self._lent[body.link.key, body.begin] = body
        return rpc.lent_ext(body.link.key, body.begin, body.size)

    def returned(self, params: list[Any]) -> None:
        """He has read these. Raises BadRequest."""
        for pair in params:
            if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int:
                raise BadRequest(_RIGHT)
            body = self._lent.pop((pair[0], pair[1]), None)
            if body is not None:
                body.release()

    def gone(self) -> None:
        """He is, and with him what he had borrowed."""
        # First: what is returned while he has not left may be used again, and he may go on reading it.
        for link in self._links.values():
            link.tell(LEFT, self.number)
        for body in self._lent.values():
            body.release()
        self._lent.clear()


class Borrowers:
    """All of them, by number."""

    def __init__(self) -> None:
        self._numbers = count(FILE + 1)
        self._all: dict[int, Borrower] = {}

    def add(self, channel: Channel) -> Borrower:
        """One who has had OFTEN long bodies."""
        borrower = Borrower(next(self._numbers), channel)
        self._all[borrower.number] = borrower
        return borrower

    def arena(self, link: WorkerLink, number: int, size: int, fd: int | None) -> None:
        """A worker's word of an arena: of `size` bytes it is new, and its descriptor came along."""
        borrower = self._all.get(number)
        if borrower is not None:
            borrower.arena(link, size, fd)
            return
        if fd is not None:
            os.close(fd)
            link.tell(LEFT, number)

    def lost(self, link: WorkerLink) -> None:
        """That worker is: nothing more comes to be in its arenas. What is lent can be read."""
        for borrower in self._all.values():
            borrower.arena(link, 0, None)

    def remove(self, borrower: Borrower) -> None:
        """He has gone."""
        del self._all[borrower.number]
        borrower.gone()
