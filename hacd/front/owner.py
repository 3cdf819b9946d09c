"""Who sent a query, as the hash knows him: a caller's session, or a transaction of the daemon's routes."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Protocol

from hacd.front.transactions import Transaction
from hacd.outcome import Outcome


class Peer(NamedTuple):
    """Who dialled, as the kernel saw it at `connect()`."""

    pid: int
    uid: int
    gid: int

    @classmethod
    def of(cls, sock: socket.socket) -> Peer:
        """The peer of a Unix socket."""
        return cls(*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


class Owner(Protocol):
    """Has transactions in flight, and gets each of them back once."""

    peer: Peer
    transactions: dict[int, Transaction]
    #: it is the daemon's own, and what it has begun may go on while the daemon drains
    inside: bool

    def resume(self, transaction: Transaction, outcome: Outcome) -> None:
        """`transaction` comes back. Its record is the hash's again when this returns. Raises nothing.

        A body in shared memory is the owner's from here on, to be let go of.
        """


class Sender(Owner, Protocol):
    """An owner that can send queries and not suspend them."""

    def take(self, transaction: Transaction, outcome: Outcome) -> bool:
        """Take a reply that nobody else takes, of a query that was not suspended; False if it cannot."""
