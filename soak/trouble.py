"""What is done to the daemon while it works."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgpack

from bench import proc

#: connections that one rush opens
RUSH = 50


class Trouble:
    """Troubles of every kind, by name; each takes no time of its own but for what it waits to see."""

    def __init__(self, supervisor: int, path: str, config: Path, url: str) -> None:
        self._supervisor = supervisor
        self._path = path
        self._config = config
        self._url = url
        self._random = random.Random(1)
        self.kinds: dict[str, Callable[[], None]] = {
            "kill -9 a worker": lambda: self._signal("hacd: worker", signal.SIGKILL),
            "kill -9 the front": lambda: self._signal("hacd: front", signal.SIGKILL),
            "SIGSTOP a worker": lambda: self._signal("hacd: worker", signal.SIGSTOP),
            "SIGTERM a worker": lambda: self._signal("hacd: worker", signal.SIGTERM),
            "reload": self._reload,
            "reload of a wrong file": self._reload_wrong,
            "garbage": self._garbage,
            "callers that vanish": self._vanish,
        }

    def _signal(self, title: str, signum: int) -> None:
        pids = proc.children(self._supervisor, title)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(pids), signum)

    def _reload(self) -> None:
        timeout = self._random.choice((4000, 5000, 6000))
        self._config.write_text(f"[http_async_client]\nconnection_timeout = {timeout}\n")
        os.kill(self._supervisor, signal.SIGHUP)

    def _reload_wrong(self) -> None:
        self._config.write_text("[http_async_client]\nconnection_timeout = 'soon'\n")
        os.kill(self._supervisor, signal.SIGHUP)

    def _garbage(self) -> None:
        for _ in range(RUSH):
            with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(1)
                sock.connect(self._path)
                sock.sendall(self._random.randbytes(self._random.randrange(1, 5000)))

    def _vanish(self) -> None:
        """Queries of callers that nobody hears of again, half of them in the middle of a frame."""
        query = msgpack.packb([0, 1, "query", [self._url, {}]])
        for number in range(RUSH):
            with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(1)
                sock.connect(self._path)
                sock.sendall(query * 5 if number % 2 else query[:-3])


def descriptors(pid: int) -> int:
    """Open descriptors of a process; 0 once it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def resident_kib(pid: int) -> int:
    """KiB of a process that are in memory; 0 once it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0
