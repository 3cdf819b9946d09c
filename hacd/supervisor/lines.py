"""The supervisor's lines to its children: what it says to each, and what waits where one does not listen.

Law: the supervisor waits for nobody, and nothing that it says is lost while the child lives. A line holds some
hundred datagrams; once it is full, words wait here, in their order. Each word says all there is to say, so that a
newer one takes the place of an older one of its kind, at the end: no more wait than there are kinds of words.
"""

from __future__ import annotations

import selectors
import socket

from hacd import log
from hacd.supervisor.children import Child

#: what a line is watched for: while nothing waits, and while something does
QUIET, WAITS = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE


class Lines:
    """One to each child that was forked. `selector` watches them, with the child as `data`."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._socks: dict[Child, socket.socket] = {}
        self._waiting: dict[Child, dict[bytes, bytes]] = {}  # by their first byte, the oldest first

    def open(self, child: Child, sock: socket.socket) -> None:
        """The supervisor's end of a new child's line."""
        sock.setblocking(False)
        self._socks[child] = sock
        self._waiting[child] = {}
        self._selector.register(sock, QUIET, child)

    def close(self, child: Child) -> None:
        """What waits for it is for nobody: its successor is born with what is in force."""
        sock = self._socks.pop(child, None)
        if sock is not None:
            del self._waiting[child]
            self._selector.unregister(sock)
            sock.close()

    def let_go(self) -> None:
        """In a child: the lines are the supervisor's."""
        for sock in self._socks.values():
            sock.close()

    def hear(self, child: Child, most: int) -> bytes:
        """What it says, of `most` bytes at the most, when there is something to read; nothing, if it has hung up."""
        try:
            return self._socks[child].recv(most)
        except OSError:
            return b""

    def say(self, child: Child, word: bytes) -> None:
        """Tell it a word, now or as soon as it listens. One that is not there needs to hear nothing."""
        waiting = self._waiting.get(child)
        if waiting is None:
            return
        if not waiting:
            if self._sent(child, word):
                return
            self._selector.modify(self._socks[child], WAITS, child)
        waiting.pop(word[:1], None)
        waiting[word[:1]] = word

    def offer(self, child: Child, word: bytes) -> bool:
        """Tell it what may get lost, behind all that may not: whether it took it."""
        if child not in self._socks or self._waiting[child]:
            return False
        try:
            self._socks[child].send(word)
        except OSError:
            return False
        return True

    def flush(self, child: Child) -> None:
        """It listens again: what waits goes, as far as it is taken."""
        waiting = self._waiting.get(child)
        if not waiting:
            return
        for kind, word in list(waiting.items()):
            if not self._sent(child, word):
                return
            del waiting[kind]
        self._selector.modify(self._socks[child], QUIET, child)

    def _sent(self, child: Child, word: bytes) -> bool:
        """Whether there is no more to do about it. A line that is broken will take nothing ever."""
        try:
            self._socks[child].send(word)
        except BlockingIOError:
            return False
        except OSError as error:
            log.debug("%s is not told: %s", child.name, error.strerror)
        return True
