"""Telling systemd: datagrams to $NOTIFY_SOCKET, as sd_notify(3) has them. No library of C.

Law: telling fails nobody, and waits a second at the most, and that only for what the unit's state hangs on. The
variables are taken out of the environment: what a route starts is not to speak for the daemon.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from hacd import log

#: s that systemd gets to take what the unit's state hangs on
PATIENCE = 1.0


class Notify:
    """Who is told (`wanted`: anybody at all), and how often he wants to hear that all is well: `watchdog`, in s."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        every, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self.wanted = address[:1] in ("/", "@")
        ours = self.wanted and pid in ("", str(os.getpid())) and every.isdecimal()
        #: 0 where nobody watches
        self.watchdog = int(every) / 1_000_000 if ours else 0.0
        self._address = "\0" + address[1:] if address[:1] == "@" else address
        self._complained = False
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def state(self, *assignments: str) -> None:
        """Tell what the unit's state hangs on."""
        self._send(PATIENCE, assignments)

    def aside(self, *assignments: str) -> None:
        """Tell what may get lost: the next one says the same, or better."""
        self._send(0.0, assignments)

    def let_go(self) -> None:
        """In a child: it is the supervisor who speaks."""
        self._sock.close()

    def _send(self, patience: float, assignments: tuple[str, ...]) -> None:
        if not self.wanted:
            return
        self._sock.settimeout(patience)
        try:
            self._sock.sendto("\n".join(assignments).encode(errors="replace"), self._address)
        except OSError as error:
            if patience or not self._complained:
                self._complained = True
                log.warning("systemd is not told %s: %s", assignments[0].partition("=")[0], error.strerror or error)
