"""Callers that keep a steady load up, and dial again whenever the daemon hangs up on them."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import msgpack

from soak.ledger import Ledger

#: ms of each query, and s after which a caller takes an open connection for stuck
TIMEOUT = 5000
STUCK = 20.0

#: s between two queries of one caller
PACE = 0.005

TIMED_OUT = 28


class Caller(threading.Thread):
    """One connection, with up to `in_flight` queries on it: GETs, every tenth a POST, every fifth unsuspended."""

    def __init__(self, path: str, urls: list[str], ledger: Ledger, in_flight: int) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._urls = urls
        self._ledger = ledger
        self._in_flight = in_flight
        self._open: dict[int, int] = {}  # numbers of unanswered calls, by msgid
        self._unsuspended: dict[str, int] = {}  # numbers of queries that were accepted and not suspended, by id
        self._unknown: set[int] = set()  # numbers of unsuspended ones whose id is not there yet
        self.done = threading.Event()
        self.stuck = False

    def run(self) -> None:
        """Until `done` is set, and then until all that was asked is settled."""
        while not self.done.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(self._path)
                    self._talk(sock)
            except OSError:
                pass
            self._hung_up()
            time.sleep(PACE)

    def _talk(self, sock: socket.socket) -> None:
        sock.settimeout(PACE)
        unpacker = msgpack.Unpacker(max_buffer_size=0)
        heard = time.monotonic()
        while not self.done.is_set() or self._open or self._unsuspended:
            if not self.done.is_set() and len(self._open) + len(self._unsuspended) < self._in_flight:
                self._ask(sock)
            try:
                data = sock.recv(65536)
            except TimeoutError:
                self.stuck = bool(self._open) and time.monotonic() - heard > STUCK
                if self.stuck:
                    return
                continue
            if not data:
                return
            heard = time.monotonic()
            unpacker.feed(data)
            for message in unpacker:
                self._heard(message)

    def _ask(self, sock: socket.socket) -> None:
        number = self._ledger.ask()
        options: dict[str, Any] = {"timeout": TIMEOUT, "xdata": number}
        if number % 10 == 0:
            options["body"] = b"x" * 100
        self._open[number] = number
        method = "send" if number % 5 == 0 else "query"
        url = self._urls[number % len(self._urls)]
        sock.sendall(msgpack.packb([0, number, method, [f"{url}?n={number}", options]]))

    def _heard(self, message: list[Any]) -> None:
        if message[0] == 2:
            reply = message[2][0]
            self._unsuspended.pop(reply["id"], None)
            self._ended(reply)
            return
        _, msgid, error, result = message
        number = self._open.pop(msgid, None)
        if error is not None:
            if number is not None:
                self._ledger.settle(number, "refused", error["code"])
        elif "rs" in result:
            self._ended(result)
        elif number is not None:
            self._unsuspended[result["id"]] = number

    def _ended(self, reply: dict[str, Any]) -> None:
        how = "replies" if reply["ok"] else "timeouts" if reply["code"] == TIMED_OUT else "errors"
        self._ledger.settle(reply["xdata"], how, reply["err"] or "")

    def _hung_up(self) -> None:
        """The end of a connection is what the daemon says of all that was open on it."""
        if self.stuck:
            return  # it is open, and nothing came: what is open now is lost
        for number in (*self._open.values(), *self._unsuspended.values()):
            self._ledger.settle(number, "told by the end of the connection")
        self._open.clear()
        self._unsuspended.clear()
