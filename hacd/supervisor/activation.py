"""The public socket as systemd hands it over, as sd_listen_fds(3) has it: bound by a .socket unit, which outlives hacd.

Law: what is handed over is judged before it is used. The variables are taken out of the environment, and no
program that a route starts inherits the descriptor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from hacd.errors import SettingsError
from hacd.supervisor import sockets

#: the descriptor that comes first
FIRST = 3

RIGHT = "one Unix stream socket that listens on a path (ListenStream=/run/hacd/hacd.sock, Accept=no) would be right"


def take(environ: MutableMapping[str, str]) -> socket.socket | None:
    """The socket to listen on, where one was handed to this process. Raises SettingsError where it is none to use."""
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count:
        return None
    if count != "1":
        raise SettingsError(f"LISTEN_FDS: {count!r} is wrong{f' ({names})' if names else ''}: {RIGHT}")
    os.set_inheritable(_there(FIRST), False)
    sock = socket.socket(fileno=FIRST)
    wrong = _wrong(sock)
    if wrong:
        raise SettingsError(f"LISTEN_FDS: descriptor {FIRST} {f'({names}) ' if names else ''}{wrong}: {RIGHT}")
    sockets.check(path_of(sock))
    return sock


def path_of(sock: socket.socket) -> str:
    """Where it listens; "" for an abstract address, which has no permissions, and for none."""
    name = sock.getsockname()
    return name if isinstance(name, str) else ""


def _there(fd: int) -> int:
    try:
        os.fstat(fd)
        socket.socket(fileno=os.dup(fd)).close()
    except OSError as error:
        raise SettingsError(f"LISTEN_FDS: descriptor {fd}: {error.strerror}: {RIGHT}") from None
    return fd


def _wrong(sock: socket.socket) -> str:
    if sock.family != socket.AF_UNIX:
        return "is no Unix socket"
    if sock.type != socket.SOCK_STREAM:
        return "is no stream socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen"
    return "" if path_of(sock) else "has no path"
