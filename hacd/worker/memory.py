"""This worker's share of the shared memory (`shm_size`), for one front: the files and the arenas that bodies are in.

Law: it counts each byte from before it is written until it has come back, and all that arenas have of the machine's
memory, in use or not. Past the share, a body goes on in the worker's own memory. Callers' arenas have half of it.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from hacd import log
from hacd.arena import COMMON
from hacd.settings import Settings
from hacd.shared import ARENAS, BODIES
from hacd.worker.arena import Arena
from hacd.worker.blocks import LEAST

#: looks that a caller's arena may be without use
IDLE = 5

#: times its share that an arena could have, were it raised meanwhile: addresses, and no memory
ROOM = 4


class Memory:
    """Files (memfds), a body each; the common arena; and callers' own, by number."""

    def __init__(self, settings: Settings) -> None:
        self.used = self.bodies = 0  # bytes in files, and how many files there are
        self.fallbacks = 0  # bodies that found no room
        self.on_arena: Callable[[Arena], None] = _nobody  # one was made for a caller
        self.on_arena_left: Callable[[Arena], None] = _nobody  # it will be used no more
        self._common: Arena | None = None
        self._own: dict[int, Arena] = {}
        self._lends = True  # callers may have arenas: the system has the seal for that
        self._next_complaint = 0.0
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """These settings hold from now on. What is taken stays taken, and an arena as large as it was."""
        shares = settings.http_async_client.workers * settings.hacd.fronts
        self._share = settings.hacd.shm_size // shares
        self._bodies, self._arenas = max(1, BODIES // shares), max(1, ARENAS // shares)
        self._shares = settings.http_async_client.memory_manager == "shm"

    def failed(self, error: OSError | ValueError) -> None:
        """The system gave none. Log it, once a second: where a descriptor is lacking, every body lacks one."""
        now = time.monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + 1
            log.warning("no shared memory for a body: %s", getattr(error, "strerror", None) or error)

    # -- files

    def take(self, size: int, new: bool) -> bool:
        """Whether there is room for `size` bytes more, of a `new` body or of one that has begun."""
        if new and self.bodies >= self._bodies:
            return False
        if size > self._room():
            self._make_room(None)
            if size > self._room():
                return False
        self.used += size
        self.bodies += new
        return True

    def _room(self) -> int:
        """Bytes that are neither in files nor in arenas."""
        common = self._common.blocks.resident if self._common is not None else 0
        return self._share - self.used - common - self._own_resident()

    def _own_resident(self) -> int:
        return sum([arena.blocks.resident for arena in self._own.values()]) if self._own else 0

    def give_back(self, size: int) -> None:
        """A body of so many bytes is gone, from here and from the front."""
        self.used -= size
        self.bodies -= 1

    # -- arenas

    def renew(self) -> Arena | None:
        """A front is there: a common arena for it, if bodies shall be in shared memory. No body may be in the last."""
        self.reset()
        if self._shares and self._share >= LEAST:
            self._common = self._make(COMMON)
        return self._common

    def block(self, size: int, number: int) -> tuple[Arena, int] | None:
        """An arena, that of `number` or the common one, and where in it a block of at least `size` bytes begins."""
        own = self._of(number) if number != COMMON else None
        arena = own or self._common
        if arena is not None and (begin := arena.blocks.take_resident(size)) >= 0:
            return arena, begin
        found = self._take_own(own, size) if own is not None else None
        if found is None:
            found = self._take(self._common, size, self._room())
        if found is None and self._make_room(own):
            found = self._take(self._common, size, self._room())
        return found

    def _of(self, number: int) -> Arena | None:
        arena = self._own.get(number)
        if arena is None and self._lends and len(self._own) < self._arenas and self._share // 2 >= LEAST:
            arena = self._make(number)
            if arena is not None:
                self._own[number] = arena
                self.on_arena(arena)
        return arena if arena is not None and not arena.left else None

    def _make(self, number: int) -> Arena | None:
        try:
            return Arena(ROOM * self._share, number)
        except (OSError, ValueError) as error:
            if number != COMMON and isinstance(error, OSError) and error.errno == errno.EINVAL:
                self._lends = False  # before Linux 5.1
            else:
                self.failed(error)
            return None

    def _take_own(self, arena: Arena, size: int) -> tuple[Arena, int] | None:
        return self._take(arena, size, min(self._room(), self._share // 2 - self._own_resident()))

    def _take(self, arena: Arena | None, size: int, more: int) -> tuple[Arena, int] | None:
        """`more`: bytes that it may grow by."""
        if arena is None:
            return None
        blocks = arena.blocks
        begin = blocks.take(size, blocks.resident + max(0, more))
        return None if begin < 0 else (arena, begin)

    def _known(self, number: int) -> Arena | None:
        return self._own.get(number) if number != COMMON else self._common

    def free(self, arena: Arena, begin: int) -> None:
        """The block that begins there is of no use any more."""
        arena.blocks.give_back(begin)
        if arena.left and not arena.blocks.used:
            self._forget(arena)

    def returned(self, number: int, begin: int) -> None:
        """A block that was lent has come back. What never was, is left alone: it may be a caller who says so."""
        arena = self._known(number)
        if arena is not None and arena.take_back(begin) and arena.left and not arena.blocks.used:
            self._forget(arena)

    def leave(self, number: int) -> None:
        """Its caller has gone, and has returned all that he ever will; or the front cannot read the common one."""
        arena = self._known(number)
        if arena is not None:
            self._leave(arena)

    def _leave(self, arena: Arena) -> None:
        """It goes as soon as nothing is in it: a body may be on its way there, or to a front that will return it."""
        arena.left = True
        if arena.number == COMMON:
            self._common = None
        arena.take_back_all()
        if not arena.blocks.used:
            self._forget(arena)

    def _forget(self, arena: Arena) -> None:
        self._own.pop(arena.number, None)
        arena.close()

    def look(self) -> None:
        """To be called about once a second: what a peak left behind goes back to the system."""
        if self._common is not None and self._common.blocks.look() < self._common.blocks.resident // 4:
            self._trim(self._common)
        for arena in list(self._own.values()):
            arena.blocks.look()
            if arena.blocks.idle > IDLE and not arena.blocks.used:
                self._give_up(arena)

    def _trim(self, arena: Arena) -> None:
        try:
            arena.trim()
        except OSError as error:
            self.failed(error)

    def _make_room(self, spared: Arena | None) -> bool:
        """Give the system what no body is in; whether that was anything."""
        before = self._room()
        if self._common is not None and self._common.blocks.slack:
            self._trim(self._common)
        for arena in list(self._own.values()):
            if not arena.blocks.used and arena is not spared:
                self._give_up(arena)
        return self._room() > before

    def _give_up(self, arena: Arena) -> None:
        """Nothing is in it: its caller gets another when he has use for one."""
        self._leave(arena)
        self.on_arena_left(arena)

    def reset(self) -> None:
        """The front is gone, and with it what it held. No transfer is left."""
        self.used = self.bodies = 0
        for arena in (self._common, *list(self._own.values())):
            if arena is not None:
                self._leave(arena)
        self._common = None
        self._own.clear()


def _nobody(_arena: Arena) -> None:
    """Who is told before anybody asked to be."""
