"""A front as a worker has it: the connection to it, and the engines that carry its queries out.

A worker dials each front. When one goes, what it asked for is of no use to anybody: those transfers are called off, and
the worker dials again until a front answers there.

Law: what one front does, or fails to do, concerns its own transfers alone. So each has engines, and shared memory, of
its own: ids cannot meet there, and one that does not read holds nobody else's origins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from hacd import log
from hacd.arena import Block
from hacd.channel import Channel
from hacd.errors import ProtocolError
from hacd.flusher import Flusher
from hacd.ledger import Ledger
from hacd.log.relay import Relay
from hacd.loop import Loop, Timer
from hacd.outcome import Held, Outcome, drop
from hacd.process import dialled
from hacd.rpc import LARGE, Decoder, bin_head, pack
from hacd.settings import Settings
from hacd.settings.live import restore
from hacd.settings.table import BODY_MAX, FRAME_MAX
from hacd.shared import Shared
from hacd.words import ARENA, BYE, CONFIGURE, FALLBACK, FREED, HELLO, LEFT, LOGGED, PING, PONG, RETURNED
from hacd.worker.arena import Arena
from hacd.worker.engines import Engines
from hacd.worker.logins import HTTP_VERSIONS, METHODS
from hacd.worker.sockets import Watches

#: seconds between two attempts to reach a front
REDIAL = 0.1

#: seconds that a front gets to answer for the first time, where this worker is to leave
ANSWERS = 1.0

#: seconds between two looks, while the engine is held, at whether the front has read
HELD = 0.01

#: bytes of a message of the front's: of a job, whose body is in a caller's frame, whatever `max_frame` is set to
MAX_MESSAGE = FRAME_MAX + 1024 * 1024

#: Outcomes that the front has not read may gather up to here; past it, it is as if the front had died. The
#: engine is held long before: what comes to be here is one body more, of whatever size, and what is small.
MAX_UNSENT = BODY_MAX + (1 << 30)

_NO_BYTES = pack(b"")
#: the front's words, as they come: the channel of a worker decodes no text
_RETURNED, _FREED, _PING, _LEFT, _CONFIGURE = (each.encode() for each in (RETURNED, FREED, PING, LEFT, CONFIGURE))

#: Bytes that the front has not read, behind what it has begun to, at which the log waits: outcomes go first.
LOG_BACKLOG = 1024 * 1024


class FrontLink:
    """Wires engines to one front. `on_ping()` and `on_end()` are called when it asks for a sign of life, and when the
    worker is to leave and nothing more is to be done for this front."""

    def __init__(
        self,
        loop: Loop,
        flusher: Flusher,
        watches: Watches,
        settings: Settings,
        path: str,
        ledger: Ledger,
        number: int,
        on_ping: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._path = path
        self._number = number
        self._loop = loop
        self._flusher = flusher
        self._on_ping = on_ping
        self._on_end = on_end
        self.engines = Engines(loop, settings, self._report, ledger, flusher.flush, watches)
        self.engines.memory.on_arena = self._has_arena
        self.engines.memory.on_arena_left = lambda arena: self._say(ARENA, (arena.number, 0))
        self.prefix = ""  # of its ids; "" until it has answered
        self.relay = Relay(self._pass_on)
        self.ended = False  # the worker leaves, and this front has or needs nothing more of it
        self._timer = Timer(loop)  # until it is dialled again, or has to have answered
        self._channel: Channel | None = None
        self._held = Timer(loop)  # runs while the engine is
        self._leaving = False
        self._dismissed = False
        self._fallbacks = 0  # that the front knows of

    def turn(self) -> None:
        """Once each time before the loop waits."""
        engines, channel = self.engines, self._channel
        if (channel is not None and channel.full) is not engines.held:
            self._hold() if not engines.held else self._go_on()
        engines.tick()
        if engines.memory.fallbacks != self._fallbacks:
            self._tell_fallbacks()
        if self.relay.waiting:
            self.relay.flush()
        if self._dismissed and not engines.in_flight and self._sent():
            self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self._on_end()

    def _hold(self) -> None:
        """The front does not read as fast as origins send."""
        self.engines.hold()
        self._held.start(_look, HELD, HELD)

    def _go_on(self) -> None:
        self._held.stop()
        self.engines.go_on()

    def _say(self, word: str, value: Any = None) -> None:
        """Tell the front a word of this worker's own."""
        if self._channel is not None:
            self._channel.send(pack((0, word, value)))

    def _tell_fallbacks(self) -> None:
        fallbacks = self.engines.memory.fallbacks
        self._say(FALLBACK, fallbacks - self._fallbacks)
        self._fallbacks = fallbacks

    def _sent(self) -> bool:
        """The front has all outcomes. One that waits for the flush makes another turn, in which it is sent."""
        if self._channel is None:
            return True
        self._flusher.flush()
        return not self._channel.pending

    def leave(self) -> None:
        """Finish what is under way. The front is asked to send no more, and answers when it won't.

        One that has never answered may be one that cannot live: it is not waited for as long as others.
        """
        self._leaving = True
        self._timer.stop()
        if self._channel is None:
            self._end()
            return
        self._say(BYE)
        if not self.prefix:
            self._timer.start(self._wait_no_more, ANSWERS, 0)

    def _wait_no_more(self, _timer: Any) -> None:
        """It has given no job, and is to give none: who accepts this connection finds that it has ended."""
        if self._channel is not None and not self.prefix and not self._dismissed and not self.engines.in_flight:
            self._channel.close()
            self._channel = None
            self._end()

    def dial(self, _timer: Any = None) -> None:
        """Reach the front, now or as soon as there is one."""
        self.engines.settle()
        try:
            sock = dialled(self._path)
        except OSError as error:
            log.debug("no front: %s", error.strerror)
            self._timer.start(self.dial, REDIAL, 0)
            return
        channel = Channel(self._loop, self._flusher, sock, Decoder(MAX_MESSAGE, None, text=False), MAX_UNSENT)
        channel.on_messages = self._messages
        channel.on_broken = self._broken
        channel.on_closed = self._lost
        channel.start()
        self._channel = channel
        self._say_hello(channel)

    def _say_hello(self, channel: Channel) -> None:
        arena = self.engines.memory.renew()
        can = {"authmethods": METHODS, "http_versions": HTTP_VERSIONS, "arena": arena.size if arena else 0}
        hello = pack((0, HELLO, {"number": self._number, "pid": os.getpid(), **can}))
        if arena is None:
            channel.send(hello)
        else:
            channel.pass_on(Shared(arena.descriptor(), 0), hello)

    def _has_arena(self, arena: Arena) -> None:
        """A caller's queries bring long bodies: he shares this one."""
        if self._channel is not None:
            said = pack((0, ARENA, (arena.number, arena.size)))
            self._channel.pass_on(Shared(arena.descriptor(), 0), said)

    def _messages(self, messages: list[Any]) -> None:
        now = time.monotonic_ns()
        engines = self.engines
        for message in messages:
            if len(message) > 3:
                engines.start(message, now)
            elif message[0]:
                engines.cancel(message[0])
            else:
                self._word(message)

    def _word(self, message: list[Any]) -> None:
        """What the front says that is about no job: `[0, word, value]`, or `[0]`, goodbye."""
        if len(message) == 1:
            self._dismissed = True
        elif message[1] == _RETURNED:
            places = iter(message[2])
            for number, begin in zip(places, places, strict=True):
                self.engines.memory.returned(number, begin)
        elif message[1] == _PING:
            self._say(PONG)
            self.engines.look()
            self.engines.memory.look()
            self._on_ping()
        elif message[1] == _LEFT:
            self.engines.memory.leave(message[2])
        elif message[1] == _FREED:
            self.engines.memory.give_back(message[2])
        elif message[1] == _CONFIGURE:
            settings = restore(message[2][b"settings"])
            self.prefix = message[2][b"prefix"].decode()
            self.engines.configure(settings, self.prefix)
            log.reconfigure(settings.hacd)

    def _report(self, id_: int, code: int, outcome: Outcome) -> None:
        channel = self._channel
        if channel is None:
            drop(outcome)  # no transfer runs without a front
        elif isinstance(outcome, Held):
            self._report_held(channel, id_, code, outcome)
        elif len(outcome) < LARGE:
            channel.send(pack((id_, code, outcome)))
        else:
            channel.send_large(pack((id_, code, b""))[: -len(_NO_BYTES)] + bin_head(len(outcome)), outcome)
            if channel.full and not self.engines.held:
                self._hold()

    def _report_held(self, channel: Channel, id_: int, code: int, held: Held) -> None:
        body = held.body
        if isinstance(body, Block):
            channel.send(pack((id_, code, held.begin, held.rest, body.size, body.number, body.begin)))
        elif isinstance(body, Shared):
            channel.pass_on(body, pack((id_, code, held.begin, held.rest, body.size)))

    def _pass_on(self, event: dict[str, Any]) -> bool:
        """Give the front what this process logged, for who tails the log. False: it takes nothing now."""
        channel = self._channel
        if channel is None or channel.closed or channel.backlog > LOG_BACKLOG:
            return False
        channel.send(pack((0, LOGGED, (event,))))
        return True

    def _broken(self, error: ProtocolError) -> None:
        log.error("the front sent what is no message: %s", error)
        if self._channel is not None:
            self._channel.close()
        self._lost(str(error))

    def _lost(self, why: str) -> None:
        say = log.warning if self.engines.in_flight else log.debug
        say("front lost (%s): %d transfers called off", why, self.engines.in_flight)
        self._channel = None
        self.prefix = ""
        self.engines.cancel_all()
        self.engines.memory.reset()
        if self._leaving:
            self._end()
            return
        self._timer.start(self.dial, REDIAL, 0)


def _look(_timer: Any) -> None:
    """The loop has turned, and looks."""
