"""What comes over a client's connection: messages, and the bodies whose descriptors come along.

The n-th descriptor that comes is that of the n-th announcement. It comes no later than that.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from hacd import rpc, shared
from hacd.client import calls
from hacd.errors import ProtocolError
from hacd.shared import Body, InFile

if TYPE_CHECKING:
    from hacd.client.borrowed import ClientArena

#: What a client says first: that it takes descriptors, and reads bodies in arenas. It wants no response.
GREETING = rpc.notification("hello", [{"descriptors": True, "arenas": True}])


#: bodies that are returned with one notification: the daemon takes no longer lists
RETURNED = 256


class _AnnouncedFile(int):
    """Stands for a body of so many bytes, in a file of its own, until its message is whole."""


class _AnnouncedBlock(NamedTuple):
    """Stands for one in a block of that arena, likewise."""

    number: int
    begin: int
    size: int


class Inbox:
    """The descriptors that have come over one connection and were not claimed, and the arenas that it has."""

    def __init__(self) -> None:
        self.descriptors: deque[int] = deque()
        self._announced = 0  # bodies that were not claimed
        self._arenas: dict[int, ClientArena] = {}
        self._returned: deque[tuple[int, int]] = deque()  # what the daemon is to be told

    def hook(self, code: int, data: bytes) -> Any:
        """The decoder's ext hook."""
        self._announced += 1
        if code == rpc.EXT_LENT:
            return _AnnouncedBlock(*rpc.lent(data))
        if code != rpc.EXT_BODY or len(data) != 8:
            return rpc.no_ext(code, data)
        return _AnnouncedFile.from_bytes(data, "big")

    def claim(self, messages: list[Any]) -> None:
        """Put into `messages` the bodies that they announce. Raises ProtocolError; whole messages are left then."""
        if not self._announced and not self.descriptors and not self._arenas:
            return
        came, messages[:] = messages[:], []
        for message in came:
            if type(message) is list and len(message) == 3 and message[1] == "arena":
                self._arena(message[2])
            else:
                self._claim(message)
                messages.append(message)

    def _arena(self, params: Any) -> None:
        """The daemon's word of an arena: it is new, and its descriptor came along; or, of size 0, used no more."""
        try:
            number, size = map(int, params)
        except (TypeError, ValueError):
            raise ProtocolError("an arena that is none") from None
        self._arenas.pop(number, None)
        if size:
            from hacd.client.borrowed import ClientArena  # with ctypes: 5 ms, for who has many long bodies

            self._arenas[number] = ClientArena(number, size, self._descriptor(), self._returned)

    def _claim(self, message: Any) -> None:
        result: Any = message[-1] if isinstance(message, list) and message else None
        reply: Any = result[0] if isinstance(result, list) and result else result  # a notification's, or a response's
        body = reply.get("rb") if isinstance(reply, dict) else None
        if isinstance(body, _AnnouncedFile):
            self._announced -= 1
            reply["rb"] = InFile(self._descriptor(), int(body))
        elif isinstance(body, _AnnouncedBlock):
            self._announced -= 1
            arena = self._arenas.get(body.number)
            if arena is None:
                raise ProtocolError("a body came in an arena that did not")
            reply["rb"] = arena.body(body.begin, body.size)

    def _descriptor(self) -> int:
        if not self.descriptors:
            raise ProtocolError("a descriptor was announced and did not come")
        return self.descriptors.popleft()

    def returned(self) -> bytes:
        """What is to be sent before anything else: bodies that are not read any more."""
        said = []
        while self._returned:
            some: list[tuple[int, int]] = []
            while self._returned and len(some) < RETURNED:
                some.append(self._returned.popleft())  # others may append meanwhile
            said.append(rpc.notification("returned", some))
        return b"".join(said)

    @property
    def returns(self) -> bool:
        """Whether there is something to be returned."""
        return bool(self._returned)

    def close(self) -> None:
        """No message will claim what is left. Bodies that came stay where they are: nobody writes there any more."""
        self._arenas.clear()
        while self.descriptors:
            os.close(self.descriptors.popleft())

    def __del__(self) -> None:
        self.close()


class Receiver:
    """Reads one connection. `descriptors`: they are taken, too, once GREETING was sent."""

    def __init__(self, sock: socket.socket, descriptors: bool) -> None:
        self._sock = sock
        self._inbox = Inbox() if descriptors else None
        self._decoder = calls.decoder(self._inbox.hook) if self._inbox else calls.decoder()
        self._broken: ProtocolError | None = None
        self._input = bytearray(rpc.CHUNK)
        self._view = memoryview(self._input)

    def read(self, flags: int = 0) -> int:
        """Read once; how many bytes, 0 at the end. Raises OSError, and what `check` does."""
        self.check()
        if self._inbox is None:
            return self._sock.recv_into(self._input, 0, flags)
        return shared.receive(self._sock, self._input, self._inbox.descriptors, flags)

    def decode(self, size: int, messages: list[Any]) -> None:
        """Append the messages that what was read has completed. Raises ProtocolError.

        Where some came whole before what is wrong, `check` raises it, or the next `read`: they are good.
        """
        try:
            try:
                self._decoder.feed(self._view[:size], messages)
            finally:
                if self._inbox is not None:
                    self._inbox.claim(messages)
        except ProtocolError as error:
            self._broken = error.with_traceback(None)
            if not messages:
                raise

    def returned(self) -> bytes:
        """What is to be sent before the next call."""
        return self._inbox.returned() if self._inbox is not None and self._inbox.returns else b""

    @property
    def broken(self) -> bool:
        """Whether `check` raises."""
        return self._broken is not None

    def check(self) -> None:
        """Raise ProtocolError where the stream is broken, behind the messages that were given."""
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """Nothing that has come is of use any more."""
        if self._inbox is not None:
            self._inbox.close()


def plain(result: Any) -> Any:
    """A result of any method, with bytes for its body."""
    if isinstance(result, dict) and isinstance(result.get("rb"), Body):
        result["rb"] = result["rb"].read()
    return result
