"""A caller of another language: a socket and msgpack, and none of hacd's own code."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

import msgpack

from tests.support.waiting import PATIENCE


class Wire:
    """A raw connection to a daemon."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self._unpacker = msgpack.Unpacker(max_buffer_size=0, unicode_errors="surrogateescape")

    def __enter__(self) -> Wire:
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
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._unpacker.feed(data)

    def call(self, method: Any, params: Any, msgid: int = 1) -> tuple[Any, Any]:
        """Error and result of a call."""
        self.send([0, msgid, method, params])
        kind, answered, error, result = self.receive()
        assert (kind, answered) == (1, msgid)
        return error, result
