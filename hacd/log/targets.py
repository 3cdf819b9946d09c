"""Where the log goes: stderr, a file, or journald.

Law: a target that takes nothing harms nobody. What it did not take is counted, and told once it
takes something again; nothing is raised, and nothing waits for it.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from typing import Protocol

from hacd.errors import SettingsError
from hacd.log.entry import PRIORITIES, Entry

JOURNAL = "/run/systemd/journal/socket"

#: an event as a line of the target's
Form = Callable[[Entry], str]


class Target(Protocol):
    """Takes events. `write` and `reopen` raise OSError."""

    def write(self, event: Entry) -> None:
        """Log an event."""

    def reopen(self) -> bool:
        """Open anew what was moved away; if that fails, all is as before. False: there is nothing that could be."""

    def close(self) -> None:
        """Let go of what is open."""


class Stderr:
    """The standard error stream of this process."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def write(self, event: Entry) -> None:
        """Log an event."""
        sys.stderr.write(self._form(event) + "\n")
        sys.stderr.flush()

    def reopen(self) -> bool:
        """It is not hacd's to open."""
        return False

    def close(self) -> None:
        """Nor to close."""


class File:
    """A file, to which each process appends by itself."""

    def __init__(self, path: str, form: Form) -> None:
        self._path = path
        self._form = form
        self._fd = _append_to(path)

    def write(self, event: Entry) -> None:
        """Log an event, with one write: lines of several processes do not mix."""
        data = (self._form(event) + "\n").encode(errors="backslashreplace")
        if os.write(self._fd, data) < len(data):
            raise OSError(0, "a line was cut short")

    def reopen(self) -> bool:
        """Open the path anew: logrotate has moved the file away."""
        fd = _append_to(self._path)
        os.close(self._fd)
        self._fd = fd
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _append_to(path: str) -> int:
    # Never to wait: a pipe that nobody reads is refused, and one that is full drops lines.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
    except FileExistsError:
        return os.open(path, flags)
    os.fchmod(fd, 0o640)  # whatever the umask is: who may read the log is said here
    return fd


class Journal:
    """journald, in its native protocol: a datagram an event."""

    def __init__(self, path: str = JOURNAL) -> None:
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
                probe.connect(path)
        except OSError:
            self._sock.close()
            raise

    def write(self, event: Entry) -> None:
        """Log an event. Not over a connection: one to a journald that has gone would stay broken."""
        self._sock.sendto(datagram(event), self._path)

    def reopen(self) -> bool:
        """Nothing is open that could be moved away."""
        return False

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def datagram(event: Entry) -> bytes:
    """An event in journald's native protocol."""
    fields = {
        "MESSAGE": event.message,
        "PRIORITY": str(PRIORITIES[event.level]),
        "SYSLOG_IDENTIFIER": "hacd",
        "HACD_PROCESS": event.process,
        "HACD_ID": event.id,
        "HACD_ROUTE": event.route,
    }
    return b"".join(_field(name, value.encode(errors="backslashreplace")) for name, value in fields.items() if value)


def _field(name: str, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
    return b"%s=%s\n" % (name.encode(), value)


def open_target(name: str, form: Form, journal: str = JOURNAL) -> Target:
    """The target that `hacd.log_target` names. Raises SettingsError where it cannot be had."""
    try:
        if name == "stderr":
            return Stderr(form)
        return Journal(journal) if name == "journald" else File(name, form)
    except OSError as error:
        raise _wrong(name, error.strerror or str(error)) from None


def check(name: str, journal: str = JOURNAL) -> None:
    """Whether that target could be had, as far as that is to be seen without a trace. Raises SettingsError."""
    if name == "stderr":
        return
    if name == "journald":
        if not os.path.exists(journal):
            raise _wrong(name, f"{journal} is not there")
        return
    directory = os.path.dirname(name)
    if os.path.exists(name):
        if stat.S_ISDIR(os.stat(name).st_mode):
            raise _wrong(name, "it is a directory")
        if not os.access(name, os.W_OK):
            raise _wrong(name, "this user may not write there")
    elif not os.path.isdir(directory):
        raise _wrong(name, f"there is no directory {directory}")
    elif not os.access(directory, os.W_OK | os.X_OK):
        raise _wrong(name, f"this user may not make a file in {directory}")


def _wrong(name: str, why: str) -> SettingsError:
    return SettingsError(
        f'hacd.log_target: {name!r} is wrong: {why}; "stderr", "journald" or a file that can be written would be right'
    )
