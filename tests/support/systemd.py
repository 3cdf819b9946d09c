"""What systemd is to a daemon: who is notified, and who hands the socket over."""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path
from types import TracebackType

from tests.support.waiting import wait_for

#: run by Python: takes the place of itself, with descriptor 3 and LISTEN_ variables as systemd passes them
HAND_OVER = """
import os, sys
passed, count, name, command = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
if passed != 3:
    os.dup2(passed, 3)
    os.set_inheritable(passed, False)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES=name)
os.execv(command[0], command)
"""


class Manager:
    """Takes what a daemon notifies, over a datagram socket of its own: `messages`, each as the pairs in it."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + path[1:] if path.startswith("@") else path)
        self._sock.setblocking(False)
        self._messages: list[dict[str, str]] = []

    def __enter__(self) -> Manager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that came so far."""
        while True:
            try:
                text = self._sock.recv(65536).decode()
            except BlockingIOError:
                return self._messages
            pairs = (line.partition("=") for line in text.splitlines())
            self._messages.append({name: value for name, _, value in pairs})

    def of(self, *names: str) -> list[str]:
        """The values that these names got, in their order."""
        return [message[name] for message in self.messages for name in names if name in message]

    def wait_for(self, name: str, value: str, after: int = 0) -> None:
        """Until that came, behind the first `after` messages."""
        wait_for(f"{name}={value}", lambda: any(message.get(name) == value for message in self.messages[after:]))

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for that long."""
        self.messages  # noqa: B018
        return not select.select([self._sock], [], [], seconds)[0]

    def wait_for_status(self, part: str) -> None:
        """Until a STATUS has that in it."""
        wait_for(f"STATUS with {part!r}", lambda: any(part in status for status in self.of("STATUS")))


def listening(path: Path) -> socket.socket:
    """A socket that listens as that of a .socket unit does, and can be passed on."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(64)
    return sock


def handed_over(sock: socket.socket, count: str = "1", name: str = "hacd.socket") -> list[str]:
    """What a command is to begin with, to be run with that socket as descriptor 3."""
    os.set_inheritable(sock.fileno(), True)
    return [sys.executable, "-c", HAND_OVER, str(sock.fileno()), count, name]
