"""A front without a daemon around it: for what of it cannot be seen from outside."""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable
from typing import Any

from hacd import rpc
from hacd.channel import Channel
from hacd.flusher import Flusher
from hacd.front.front import Front
from hacd.front.owner import Peer
from hacd.front.routing.transaction import RoutedTransaction
from hacd.front.sessions import Session
from hacd.front.workers import WorkerLink
from hacd.ledger import Ledger
from hacd.loop import Loop, Timer
from hacd.outcome import begin, compose
from hacd.settings import Settings

MIB = 1024 * 1024

REPLY = compose(begin(0, None, 200, "OK", "1.1"), b"", b"x" * 100, (0, 0, 0, 0, 0, 0, 0, 0), b"http://x/", b"")


class Rig:
    """A front without a daemon around it, and one caller of his."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.flusher = Flusher(self.loop)
        self.front = Front(self.loop, Settings(), Ledger(16))
        self.flusher.start(self.front.turn)
        self.ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5)
        channel = Channel(self.loop, self.flusher, self.ours, rpc.Decoder(MIB), MIB)
        self.front.welcome(Session(self.front, channel, Peer.of(self.ours)))

    def turn(self) -> None:
        """Let the loop turn a few times: reads, what they lead to, writes."""
        for _ in range(4):
            timer = Timer(self.loop)
            timer.start(lambda _timer: self.loop.stop(), 0.002, 0)
            self.loop.run()
            timer.close()

    def run(self, route: Callable[[Any], Any], *others: Callable[[Any], Any]) -> weakref.ref[RoutedTransaction]:
        """Have the caller enter a route; `others` are there under their names."""
        self.front.router.replace(__file__, {function.__name__: function for function in (route, *others)})
        self.theirs.send(rpc.request(1, "run", [route.__name__]))
        self.turn()
        (tx,) = self.front.router.live
        return weakref.ref(tx)

    def reply(self) -> None:
        """All queries come back."""
        for transaction in list(self.front.transactions):
            self.front._resume(transaction, 0, REPLY)
        self.turn()

    def worker(self) -> tuple[WorkerLink, socket.socket]:
        """A worker that has dialled, and said nothing yet; and its side."""
        ours, theirs = socket.socketpair()
        front = self.front
        link = WorkerLink(self.loop, self.flusher, ours, MIB, front.outcomes, front.statistics, shm=True)
        front.fleet.join(link)
        return link, theirs

    def close(self) -> None:
        self.theirs.close()
        self.turn()
        self.loop.close()
