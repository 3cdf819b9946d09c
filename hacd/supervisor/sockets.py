"""The sockets that the daemon listens on: bound once, by the supervisor, which outlives its children."""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
import stat
from collections.abc import Callable, Collection

from hacd import log
from hacd.errors import SettingsError
from hacd.settings import Hacd

BACKLOG = 4096

#: what the workers dial has the public socket's path and this; where there are several fronts, .front1 and so on,
#: which is not longer
INTERNAL = ".workers"

#: bytes of a socket's path, as Linux has it
PATH_MAX = 107


def check(path: str) -> None:
    """Raise SettingsError if there is no room in a socket's address for this path, and INTERNAL after it."""
    most = PATH_MAX - len(INTERNAL)
    if len(os.fsencode(path)) > most:
        raise SettingsError(f"socket {path}: the path is too long: at most {most} bytes would be right")


def owner(settings: Hacd) -> tuple[int, int]:
    """User and group that `socket_owner` and `socket_group` name; -1: as it comes. Raises SettingsError."""
    return _number("user", settings.socket_owner, _uid), _number("group", settings.socket_group, _gid)


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _number(what: str, name: str, look_up: Callable[[str], int]) -> int:
    if not name:
        return -1
    number = int(name) if name.isascii() and name.isdecimal() else None
    try:
        # -1 as the kernel has it would mean: as it is
        if number is not None and number < 0xFFFFFFFF:
            return number
        return look_up(name)
    except KeyError:
        setting = "socket_owner" if what == "user" else "socket_group"
        raise SettingsError(
            f"hacd.{setting}: {name!r} is wrong: there is no such {what}; name or number of a {what} would be right"
        ) from None


def listen(path: str, settings: Hacd) -> socket.socket:
    """The public socket, at `path`, as the settings want it. Raises SettingsError."""
    return bind(path, int(settings.socket_mode, 8), owner(settings))


def bind(path: str, mode: int, ids: tuple[int, int] = (-1, -1)) -> socket.socket:
    """Listen on `path` with these permissions, user and group. Raises SettingsError with what is in the way."""
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Nobody may dial between bind and chmod.
    mask = os.umask(0o777)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise SettingsError(f"socket {path}: {error.strerror or error}{_hint(error)}") from None
    finally:
        os.umask(mask)
    try:
        os.chown(path, *ids)
    except OSError as error:
        sock.close()
        os.unlink(path)
        raise _not_given(ids, error) from None
    os.chmod(path, mode)
    sock.listen(BACKLOG)
    return sock


def _not_given(ids: tuple[int, int], error: OSError) -> SettingsError:
    """Only root gives a socket away; anybody may give it to a group of his own."""
    name = "socket_owner" if ids[0] not in (-1, os.geteuid()) else "socket_group"
    right = '""' if name == "socket_owner" else 'a group of the daemon\'s user, or ""'
    return SettingsError(
        f"hacd.{name}: the socket cannot be given away: {error.strerror}: to run as root, or {right}, would be right"
    )


def _hint(error: OSError) -> str:
    """What would be right, as the end of an error."""
    return ": a path where this user may write would be right" if isinstance(error, PermissionError) else ""


def _clear(path: str) -> None:
    """Make the directory, and take away what a daemon that was killed left behind."""
    directory = os.path.dirname(path) or "."
    mask = os.umask(0o022)  # else it might shut out those whom the socket's mode lets in
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"socket {path}: no directory {directory} can be made: {error.strerror}{_hint(error)}"
        ) from None
    finally:
        os.umask(mask)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"socket {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise SettingsError(f"socket {path}: the file there is no socket; take it away or name another path")
    try:
        if _is_heard(path):
            raise SettingsError(f"socket {path}: another daemon listens there; stop it or name another path")
        os.unlink(path)
    except OSError as error:
        raise SettingsError(f"socket {path}: {error.strerror}") from None


def _is_heard(path: str) -> bool:
    """Whether somebody listens at that socket. Raises OSError where that is not known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # so many wait that there is no room
            return True
    return True


def sweep(path: str, kept: Collection[str]) -> None:
    """Take away what a daemon at `path` that was killed, and had other fronts, left behind: all but `kept`.

    It is called by who has the public socket, so that no other daemon can be about to listen at one of these.
    """
    directory, name = os.path.split(path)
    of_a_front = re.compile(re.escape(name) + rf"({re.escape(INTERNAL)}|\.front[1-9][0-9]*)")
    try:
        found = [each for each in os.listdir(directory or ".") if of_a_front.fullmatch(each)]
    except OSError as error:
        log.debug("socket %s: what is beside it is not looked at: %s", path, error.strerror)
        return
    for stale in (os.path.join(directory, each) for each in found):
        if stale in kept:
            continue
        try:
            if stat.S_ISSOCK(os.lstat(stale).st_mode) and not _is_heard(stale):
                os.unlink(stale)
        except OSError as error:
            log.debug("socket %s: left where it is: %s", stale, error.strerror)


def remove(path: str) -> None:
    """Take a socket's file away, if it is still there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
