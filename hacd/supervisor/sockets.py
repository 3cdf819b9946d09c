"""The sockets that the daemon listens on: bound once, by the supervisor, which outlives its children."""

from __future__ import annotations

import os
import socket
import stat

from hacd.errors import SettingsError

BACKLOG = 4096

#: what the workers dial has the public socket's path and this
INTERNAL = ".workers"

#: bytes of a socket's path, as Linux has it
PATH_MAX = 107


def check(path: str) -> None:
    """Raise SettingsError if there is no room in a socket's address for this path, and INTERNAL after it."""
    most = PATH_MAX - len(INTERNAL)
    if len(os.fsencode(path)) > most:
        raise SettingsError(f"socket {path}: the path is too long: at most {most} bytes would be right")


def bind(path: str, mode: int) -> socket.socket:
    """Listen on `path` with these permissions. Raises SettingsError with what is in the way."""
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Nobody may dial between bind and chmod.
    mask = os.umask(0o777)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise SettingsError(f"socket {path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    os.chmod(path, mode)
    sock.listen(BACKLOG)
    return sock


def _clear(path: str) -> None:
    """Make the directory, and take away what a daemon that was killed left behind."""
    directory = os.path.dirname(path) or "."
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"socket {path}: no directory {directory} can be made: {error.strerror}") from None
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"socket {path}: {error.strerror}") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise SettingsError(f"socket {path}: the file there is no socket; take it away or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError as error:
            raise SettingsError(f"socket {path}: {error.strerror}") from None
        else:
            raise SettingsError(f"socket {path}: another daemon listens there; stop it or name another path")


def remove(path: str) -> None:
    """Take a socket's file away, if it is still there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
