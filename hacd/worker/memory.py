"""This worker's share of the shared memory (`shm_size`), for one front: the files and the arenas that bodies are in.

Law: it counts each byte from before it is written until it has come back, and all that an arena ever reached, for the
kernel keeps that. Past the share, a body goes on in the worker's own memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hacd import log
from hacd.arena import COMMON, LEAST, Arena
from hacd.settings import Settings

#: bodies in files, and callers who have an arena, of all workers together: each costs a descriptor
BODIES, ARENAS = 512, 128


class Memory:
    """Files (memfds), a body each; the common arena; and callers' own, by number."""

    def __init__(self, settings: Settings) -> None:
        self.used = self.bodies = 0  # bytes in files, and how many files there are
        self.fallbacks = 0  # bodies that found no room
        self.on_arena: Callable[[Arena], None] = _nobody  # one was made for a caller
        self.on_arena_left: Callable[[Arena], None] = _nobody  # it will be used no more
        self._common: Arena | None = None
        self._own: dict[int, Arena] = {}
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
        if self.used + size + self._reached() > self._share:
            self._make_room()
            if self.used + size + self._reached() > self._share:
                return False
        self.used += size
        self.bodies += new
        return True

    def give_back(self, size: int) -> None:
        """A body of so many bytes is gone, from here and from the front."""
        self.used -= size
        self.bodies -= 1

    # -- arenas

    def renew(self) -> Arena | None:
        """A front is there: a common arena for it, if bodies shall be in shared memory. No body may be in the last."""
        self.reset()
        if self._shares and self._share >= LEAST:
            self._common = self._make(self._share, COMMON)
        return self._common

    def block(self, size: int, number: int) -> tuple[Arena, int] | None:
        """An arena, that of `number` or the common one, and where in it a block of at least `size` bytes begins."""
        arena = self._of(number) if number != COMMON else self._common
        found = self._take(arena, size)
        if found is None and arena is not self._common:
            found = self._take(self._common, size)
        return found

    def _of(self, number: int) -> Arena | None:
        arena = self._own.get(number)
        if arena is None and len(self._own) < self._arenas and self._share // 2 >= LEAST:
            arena = self._make(self._share // 2, number)
            if arena is not None:
                self._own[number] = arena
                self.on_arena(arena)
        return arena

    def _make(self, size: int, number: int) -> Arena | None:
        try:
            return Arena(size, number)
        except (OSError, ValueError) as error:
            self.failed(error)
            return None

    def _take(self, arena: Arena | None, size: int) -> tuple[Arena, int] | None:
        if arena is None:
            return None
        begin = arena.take(size, self._share - self.used - self._reached() + arena.reach)
        return None if begin < 0 else (arena, begin)

    def _reached(self) -> int:
        """Bytes that arenas may have of the machine's memory."""
        common = self._common.reach if self._common is not None else 0
        return common + sum([arena.reach for arena in self._own.values()]) if self._own else common

    def free(self, arena: Arena, begin: int) -> None:
        """The block that begins there is of no use any more."""
        arena.give_back(begin)
        if arena.left and not arena.used:
            arena.close()

    def returned(self, number: int, begin: int) -> None:
        """A block that was lent has come back. What never was, is left alone: it may be a caller who says so."""
        arena = self._own.get(number) if number != COMMON else self._common
        if arena is not None and begin in arena.lent:
            arena.give_back(begin)

    def leave(self, number: int) -> None:
        """Its caller has gone, and has returned all that he ever will."""
        arena = self._own.pop(number, None)
        if arena is not None:
            self._leave(arena)

    def _leave(self, arena: Arena) -> None:
        for begin in list(arena.lent):
            arena.give_back(begin)
        arena.left = True
        if not arena.used:
            arena.close()

    def look(self) -> None:
        """To be called about once a second: what a peak left behind goes back to the system."""
        if self._common is not None and self._common.look() < self._common.reach // 4:
            self._common.trim()
        for arena in list(self._own.values()):
            if not arena.look():
                self._give_up(arena)

    def _make_room(self) -> None:
        """Give the system what no body is in."""
        if self._common is not None and self._common.used < self._common.reach // 2:
            self._common.trim()
        for arena in list(self._own.values()):
            if not arena.used:
                self._give_up(arena)

    def _give_up(self, arena: Arena) -> None:
        """Nothing is in it: its caller gets another when he has use for one."""
        del self._own[arena.number]
        self._leave(arena)
        self.on_arena_left(arena)

    def reset(self) -> None:
        """The front is gone, and with it what it held. No transfer is left."""
        self.used = self.bodies = 0
        for arena in (self._common, *self._own.values()):
            if arena is not None:
                self._leave(arena)
        self._common = None
        self._own.clear()


def _nobody(_arena: Arena) -> None:
    """Who is told before anybody asked to be."""
