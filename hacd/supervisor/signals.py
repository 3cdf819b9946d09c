"""The supervisor's signals: they only wake it up, and are acted on in its own turn."""

from __future__ import annotations

import signal
import socket
from types import FrameType

TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1)

# They mean nothing; their default would end a process and leave its socket behind.
IGNORED = (signal.SIGUSR2, signal.SIGALRM)


class Signals:
    """Notes those of TAKEN from the time that it is made. `wake` is readable when one has come."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self.wake, self._wake_out = socket.socketpair()
        for end in (self.wake, self._wake_out):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        for signum in TAKEN:
            signal.signal(signum, self._note)
        for signum in IGNORED:
            signal.signal(signum, signal.SIG_IGN)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self._came.append(signum)

    def woken(self) -> None:
        """Empty `wake`."""
        self.wake.recv(4096)

    def take(self) -> list[int]:
        """Those that came since the last time, in their order."""
        came, self._came = self._came, []
        return came

    def ignore(self) -> None:
        """All is over but the interpreter's own end, which would give signals their defaults back."""
        for signum in TAKEN:
            signal.signal(signum, signal.SIG_IGN)

    def let_go(self) -> None:
        """In a child: it has signals of its own. Those sent to all processes stay the supervisor's to act on."""
        signal.set_wakeup_fd(-1)
        for signum in TAKEN:
            signal.signal(signum, signal.SIG_DFL)
        for signum in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(signum, signal.SIG_IGN)
        self.wake.close()
        self._wake_out.close()
