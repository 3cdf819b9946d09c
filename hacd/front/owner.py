"""Who sent a query, as the hash knows him: a caller's session, or a transaction of the daemon's routes."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from typing import NamedTuple, Protocol

from hacd.front.transactions import Transaction
from hacd.outcome import Outcome

#: SO_PEERGROUPS of asm-generic/socket.h; Python has no name for it, nor room for more than GROUPS_MAX groups
PEERGROUPS = 59
GROUPS_MAX = 256


class Peer(NamedTuple):
    """Who dialled, as the kernel saw it at `connect()`."""

    pid: int
    uid: int
    gid: int
    #: all his groups, sorted
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, sock: socket.socket) -> Peer:
        """The peer of a Unix socket."""
        pid, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return cls(pid, uid, gid, tuple(sorted({gid, *_supplementary(sock, uid, gid)})))

    def __str__(self) -> str:
        return f"uid {self.uid} pid {self.pid}"


def _supplementary(sock: socket.socket, uid: int, gid: int) -> tuple[int, ...]:
    """The kernel's word of them, as of `connect()`; where it has none, or too many, the system's database."""
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, PEERGROUPS, 4 * GROUPS_MAX)
        return struct.unpack(f"{len(packed) // 4}I", packed)
    except OSError:
        try:
            return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        except KeyError:
            return ()


class Owner(Protocol):
    """Has transactions in flight, and gets each of them back once."""

    peer: Peer
    transactions: dict[int, Transaction]
    #: those of the routes that it entered: its bound holds for them once more
    routed: dict[int, Transaction]
    #: it is the daemon's own, and what it has begun may go on while the daemon drains
    inside: bool
    #: how it takes a long body: COMMON, FILE, or the number of its own arena
    into: int

    def resume(self, transaction: Transaction, outcome: Outcome) -> None:
        """`transaction` comes back. Its record is the hash's again when this returns. Raises nothing.

        A body in shared memory is the owner's from here on, to be let go of.
        """


class Sender(Owner, Protocol):
    """An owner that can send queries and not suspend them."""

    @property
    def here(self) -> bool:
        """Whether it would take a reply."""

    def take(self, transaction: Transaction, outcome: Outcome) -> bool:
        """Take a reply that nobody else takes, of a query that was not suspended; False if it cannot."""

    def take_packed(self, outcome: bytes, tail: bytes) -> bool:
        """The same, when its record serves another query already: packed, and the tail that belongs to it."""
