"""Another front, as the one that asks it has it: a connection that this one dials.

First goes `[0, "peer", {"number", "pid", "prefix"}]`, in the place of a worker's hello, and the other says the same as
the notification `peer`. From then on this one asks, by MessagePack-RPC, and tells; the other answers. What the other
wants to ask, it asks over a connection that it dials.

Law: nobody waits longer for another front than he was told. Each question ends once: with the answer, at its time
limit, or when the connection breaks. What is unsent is bounded here. What is unanswered is, too: of callers' calls,
past ASKED no further one is asked (`full`); what fronts ask on their own is one `take` for each ticket, and one
question at a time of each other kind.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from hacd import log, rpc
from hacd.channel import Channel
from hacd.errors import ProtocolError
from hacd.front.peers.questions import Answer, Asked, MayEnd, Questions, Then
from hacd.front.peers.shapes import is_response, judge_error, judge_result, prefix_of
from hacd.log.relay import Relay
from hacd.loop import Timer
from hacd.process import dialled
from hacd.rpc import Decoder, pack
from hacd.shared import Shared
from hacd.words import PEER

if TYPE_CHECKING:
    from hacd.front.peers.peers import Peers

#: seconds between two attempts to reach it
REDIAL = 0.1

#: bytes that may wait for it; past that, the connection is given up and dialled again
MAX_UNSENT = 256 * 1024 * 1024

#: bytes that wait for it, at which the log waits
LOG_BACKLOG = 1024 * 1024

#: bytes of an answer: 1000 transactions, each with a URL of 256 characters, or what all counters are
MAX_MESSAGE = 16 * 1024 * 1024

#: why an answer is missing whose time is over
SILENT = "does not answer"

#: questions that it has not answered, past which callers' calls are asked no more: 16 MB, and what 256 callers may ask
ASKED = 16_384


class PeerLink:
    """The connection to the front of that `number`, whose socket is at `path`."""

    def __init__(self, peers: Peers, number: int, path: str) -> None:
        self.number = number
        self.prefix = ""  # of its ids; "" while it is not there
        self.silent = False  # a question's time was over, and it has said nothing since
        self.relay = Relay(self._pass_on)  # of this front's log
        self._peers = peers
        self._path = path
        self._channel: Channel | None = None
        self._redial = Timer(peers.loop)
        self._questions = Questions()
        self._msgid = 0

    @property
    def up(self) -> bool:
        """Whether it can be asked."""
        return bool(self.prefix)

    @property
    def waits(self) -> bool:
        """Whether it has something to answer."""
        return bool(self._questions)

    @property
    def full(self) -> bool:
        """Whether it has too much to answer to be asked for one more caller."""
        return len(self._questions) >= ASKED

    def dial(self, _timer: Any = None) -> None:
        """Reach it, now or as soon as it is there."""
        try:
            sock = dialled(self._path)
        except OSError as error:
            log.debug("no front %d: %s", self.number, error.strerror)
            self._redial.start(self.dial, REDIAL, 0)
            return
        peers = self._peers
        channel = Channel(peers.loop, peers.flusher, sock, Decoder(MAX_MESSAGE, None), MAX_UNSENT)
        channel.on_messages = self._messages
        channel.on_broken = self._broken
        channel.on_closed = self._lost
        channel.start()
        channel.send(pack((0, PEER, peers.who())))
        self._channel = channel

    # -- out

    def ask(
        self,
        method: str,
        params: list[Any],
        then: Then,
        limit: int,
        ticket: int | None = None,
        may_end: MayEnd = lambda: True,
    ) -> None:
        """Ask it, and have `then` called once, within `limit` ms; at once where it cannot be asked.

        `ticket`: a descriptor that goes along, and is closed here.
        """
        channel = self._channel
        if channel is None or not self.up:
            if ticket is not None:
                os.close(ticket)
            then(Answer(missing="is not there"))
            return
        self._msgid = self._msgid % rpc.MSGID_MAX + 1
        ns = limit * 1_000_000
        self._questions.add(self._msgid, Asked(time.monotonic_ns() + ns, method, then, may_end), ns)
        request = rpc.request(self._msgid, method, params)
        if ticket is None:
            channel.send(request)
        else:
            channel.pass_on(Shared(ticket, 0), request)
        self._peers.watch()

    def tell(self, method: str, params: list[Any]) -> None:
        """Tell it something, if it is there."""
        if self._channel is not None and self.up:
            self._channel.send(rpc.notification(method, params))

    def flush(self) -> None:
        """What was asked and told leaves now."""
        if self._channel is not None:
            self._channel.flush()

    def _pass_on(self, event: dict[str, Any]) -> bool:
        """Give it what this process logged. False: it takes nothing now."""
        channel = self._channel
        if channel is None or not self.up or channel.backlog > LOG_BACKLOG:
            return False
        channel.send(rpc.notification("log", [event]))
        return True

    # -- back

    def _messages(self, messages: list[Any]) -> None:
        self.silent = False
        for message in messages:
            try:
                self._message(message)
            except ProtocolError as error:
                self._broken(error)
                return

    def _message(self, message: Any) -> None:
        if is_response(message):
            self._answered(*message[1:])
        elif type(message) is list and len(message) == 3 and message[:2] == [rpc.NOTIFICATION, PEER] and not self.up:
            self.prefix = prefix_of(message[2])
            self._peers.reached(self)
        else:
            raise ProtocolError("what is no answer")

    def _answered(self, number: int, error: Any, result: Any) -> None:
        asked = self._questions.find(number)
        if asked is None:  # it comes too late
            return
        if error is None:
            judge_result(asked.method, result)
        else:
            judge_error(error)
        self._questions.end(number)
        asked.then(Answer(result, error))

    def expire(self, now: int) -> None:
        """End the questions whose time is over."""
        due = self._questions.due(now)
        if due and not self.silent:
            self.silent = True
            self._peers.offers.fell_silent(self)
        for number in due:
            asked = self._questions.find(number)
            if asked is None:  # one before it had the connection broken off
                continue
            if asked.may_end():
                self._questions.end(number)
                asked.then(Answer(missing=SILENT))
            else:
                self._questions.put_back(number, now)

    # -- the end

    def _broken(self, error: ProtocolError) -> None:
        log.error("front %d sent what is no message: %s", self.number, error)
        if self._channel is not None:
            self._channel.break_off(str(error))

    def _lost(self, why: str) -> None:
        self._channel = None
        log.debug("front %d is gone (%s)", self.number, why)
        self.prefix = ""
        self.silent = False
        for each in self._questions.end_all():
            each.then(Answer(missing="is gone"))
        self._redial.start(self.dial, REDIAL, 0)
