"""A caller of another language: a socket and msgpack, and none of hacd's own code."""

from __future__ import annotations

import os
import socket
from collections import deque
from types import TracebackType
from typing import Any, Self

import msgpack

from tests.support.waiting import PATIENCE


class Wire:
    """A raw connection to a daemon."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self._unpacker = msgpack.Unpacker(max_buffer_size=0, unicode_errors="surrogateescape")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, *messages: Any) -> None:
        """Send messages as they are, right or wrong."""
        self.raw(b"".join(msgpack.packb(message) for message in messages))

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.sock.sendall(data)

    def receive(self) -> Any:
        """The next message; None at the end of the stream."""
        while True:
            for message in self._unpacker:
                return message
            try:
                data = self._recv()
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._unpacker.feed(data)

    def _recv(self) -> bytes:
        return self.sock.recv(65536)

    def call(self, method: Any, params: Any, msgid: int = 1) -> tuple[Any, Any]:
        """Error and result of a call."""
        self.send([0, msgid, method, params])
        kind, answered, error, result = self.receive()
        assert (kind, answered) == (1, msgid)
        return error, result


class Taker(Wire):
    """One that takes descriptors. `descriptors`: those that have come; whoever takes one closes it."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.descriptors: deque[int] = deque()
        self.send([2, "hello", [{"descriptors": True}]])

    def _recv(self) -> bytes:
        data, descriptors, flags, _ = socket.recv_fds(self.sock, 65536, 253, socket.MSG_CMSG_CLOEXEC)
        assert not flags & socket.MSG_CTRUNC
        self.descriptors += descriptors
        return data

    def body(self, reply: dict[str, Any]) -> tuple[int, int]:
        """Descriptor and size of the body of the next reply that has one."""
        assert isinstance(reply["rb"], msgpack.ExtType), reply
        assert reply["rb"].code == 1
        return self.descriptors.popleft(), int.from_bytes(reply["rb"].data, "big")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        while self.descriptors:
            os.close(self.descriptors.popleft())
