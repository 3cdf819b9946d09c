"""`python -m bench.slow --port P --delay MS`: an origin that answers each query so much later, however many there are.

One process, one epoll, connections kept. Since all wait equally long, who is due first is who came first.
"""

from __future__ import annotations

import argparse
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.openfiles import raise_limit
from bench.origin import BODY, BODY_SIZE, PATIENCE, Origin, answers, free_port
from bench.processes import running, waiting

_REPLY = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY_SIZE}\r\n\r\n{BODY}\n".encode()
_END = b"\r\n\r\n"


class _Origin:
    """Those who are connected, what they have sent of a request, and who is due when (s, monotonic)."""

    def __init__(self, port: int, delay: float) -> None:
        self._delay = delay
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._peers: dict[int, socket.socket] = {}
        self._begun: dict[int, bytes] = {}
        self._due: deque[tuple[float, socket.socket]] = deque()

    def serve(self) -> None:
        """Until it is killed."""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for fd, _ in self._poll.poll(wait):
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._read(self._peers[fd])
            self._answer()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except BlockingIOError:
                return
            peer.setblocking(False)
            self._peers[peer.fileno()] = peer
            self._poll.register(peer, select.EPOLLIN)

    def _read(self, peer: socket.socket) -> None:
        fd = peer.fileno()
        try:
            data = peer.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            del self._peers[fd]
            self._begun.pop(fd, None)
            peer.close()
            return
        data = self._begun.pop(fd, b"") + data
        due = time.monotonic() + self._delay
        for _ in range(data.count(_END)):
            self._due.append((due, peer))
        if rest := data.rpartition(_END)[2]:
            self._begun[fd] = rest

    def _answer(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            peer = self._due.popleft()[1]
            if peer.fileno() >= 0:  # he has not gone
                try:
                    peer.send(_REPLY)
                except (BrokenPipeError, ConnectionResetError):
                    continue  # he has just gone; reading says so next


@contextmanager
def serving(directory: Path, delay: int) -> Iterator[Origin]:
    """Run it, with its log in `directory`. `delay`: ms."""
    port, log = free_port(), directory / f"slow-{delay}.log"
    command = [sys.executable, "-m", "bench.slow", "--port", str(port), "--delay", str(delay)]
    with log.open("w") as stderr, running(command, stderr=stderr) as process:
        for _ in waiting(process, "the slow origin", log):
            if answers(port, PATIENCE + delay / 1000):
                break
        yield Origin(f"http://127.0.0.1:{port}/", [process.pid])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.slow")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=int, required=True, metavar="MS")
    given = parser.parse_args()
    raise_limit()
    _Origin(given.port, given.delay / 1000).serve()


if __name__ == "__main__":
    main()
