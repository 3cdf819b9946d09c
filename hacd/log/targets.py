"""Where the log goes: stderr, a file, or journald.

Law: a target that takes nothing harms nobody. What it did not take is counted, and told once it
takes something again; nothing is raised, and nothing waits for it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Protocol

from hacd.errors import SettingsError
from hacd.log.entry import PRIORITIES, Entry
from hacd.log.streams import Stream

#: stands where a text was cut to what a pipe takes in one piece
CUT = "…"

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
    """The standard error stream. Opened once: processes that are forked later write to the same."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._stream = Stream()

    def write(self, event: Entry) -> None:
        """Log an event, with one write: lines of several processes do not mix."""
        data = _encoded(self._form(event))
        if self._stream.whole and len(data) > self._stream.whole:
            data = fitting(event, self._form, self._stream.whole)
        self._stream.write(data)

    def reopen(self) -> bool:
        """It is not hacd's to open."""
        return False

    def close(self) -> None:
        """Let go of it; the stream itself is not hacd's to close."""
        self._stream.close()


def fitting(event: Entry, form: Form, most: int) -> bytes:
    """The event as a line of about as many bytes as there may be, and no more: as much of its text as there is room."""
    fits, over = 0, len(event.message)  # characters, of which the form makes one byte to six
    data = _encoded(form(_shortened(event, 0)))
    while over - fits > 32:
        middle = (fits + over) // 2
        tried = _encoded(form(_shortened(event, middle)))
        if len(tried) <= most:
            fits, data = middle, tried
        else:
            over = middle
    return data


def _shortened(event: Entry, keep: int) -> Entry:
    """The event with that much of its text. Of a traceback the middle goes: its end says what happened."""
    text = event.message
    first = text.find("\n") + 1
    if not 0 < first <= keep:
        return event._replace(message=text[:keep] + CUT)
    return event._replace(message=text[:first] + CUT + text[len(text) - keep + first :])


def _encoded(text: str) -> bytes:
    return (text + "\n").encode(errors="backslashreplace")


class File:
    """A file, to which each process appends by itself."""

    def __init__(self, path: str, form: Form) -> None:
        self._path = path
        self._form = form
        self._fd = _append_to(path)

    def write(self, event: Entry) -> None:
        """Log an event, with one write: lines of several processes do not mix."""
        data = _encoded(self._form(event))
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
    # Never to wait: a device that takes nothing drops lines.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
    except FileExistsError:
        return _append_to_existing(path, flags)
    os.fchmod(fd, 0o640)  # whatever the umask is: who may read the log is said here
    return fd


def _append_to_existing(path: str, flags: int) -> int:
    mode = os.stat(path).st_mode
    if _unfit(mode) and not stat.S_ISDIR(mode):  # of those the system says so itself
        raise OSError(errno.EINVAL, _unfit(mode))
    return os.open(path, flags)


def _unfit(mode: int) -> str:
    """What is wrong with a target of that kind; "" if nothing is.

    Each process opens its own, at times of its own. A pipe whose reader has gone for a moment could not be
    opened any more; one that is opened to see whether it could be would end its reader when it is closed.
    """
    if stat.S_ISREG(mode) or stat.S_ISCHR(mode):
        return ""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a disk"}
    return f"it is {kinds.get(stat.S_IFMT(mode), 'no file')}"


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
        "PRIORITY": str(PRIORITIES.get(event.level, 6)),  # others have levels of their own
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
        wrong = _unfit(os.stat(name).st_mode)
        if wrong:
            raise _wrong(name, wrong)
        if not os.access(name, os.W_OK):
            raise _wrong(name, "this user may not write there")
    elif os.path.islink(name):
        raise _wrong(name, "it is a link to what is not there")
    elif not os.path.isdir(directory):
        raise _wrong(name, f"there is no directory {directory}")
    elif not os.access(directory, os.W_OK | os.X_OK):
        raise _wrong(name, f"this user may not make a file in {directory}")


def _wrong(name: str, why: str) -> SettingsError:
    return SettingsError(
        f'hacd.log_target: {name!r} is wrong: {why}; "stderr", "journald" or a file that can be written would be right'
    )
