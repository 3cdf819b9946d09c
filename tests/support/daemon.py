"""A real daemon in a directory of its own. Its end is checked: no orphan, no socket file, no traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from hacd import Client, HacdError
from tests.support.systemd import handed_over
from tests.support.waiting import wait_for

#: what a log may not hold after a test, unless the test says that it may
FORBIDDEN = ("Traceback", " ERROR ", " CRITICAL ")

#: fronts of a daemon whose test does not say how many; the environment may, to run the whole suite with several
FRONTS = int(os.environ.get("TEST_FRONTS", "1"))


class Daemon:
    """A running daemon. `settings`: as for `--set`; `variables`: more of its environment.

    `activated`: the socket that it is handed over. `stderr`: in place of the file that `log` reads.
    `prefix`: a command that takes the daemon's for its arguments.
    `tolerate`: words of FORBIDDEN that its log may hold.
    """

    def __init__(
        self,
        directory: Path,
        *,
        loop: str = "",
        config: Path | None = None,
        variables: dict[str, str] | None = None,
        activated: socket.socket | None = None,
        stderr: int | None = None,
        prefix: list[str] | None = None,
        **settings: object,
    ) -> None:
        self.directory = directory
        self.socket = str(directory / "hacd.sock")
        self.log_path = directory / "hacd.log"
        self.tolerate: set[str] = set()
        command = [sys.executable, "-m", "hacd", "run", "--socket", self.socket]
        command += ["-c", str(config)] if config else []
        command = [*(prefix or []), *(handed_over(activated) if activated else []), *command]
        for name, value in {"connection_timeout": 5000, "fronts": FRONTS, **settings}.items():
            command += ["--set", f"{name}={value}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HACD_")}
        environment |= variables or {}
        if loop:
            environment["HACD_LOOP"] = loop
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log if stderr is None else stderr,
                env=environment,
                pass_fds=[activated.fileno()] if activated else [],
            )
        self._activated = activated is not None
        self._seen: set[psutil.Process] = set()

    # -- what a test asks

    @property
    def log(self) -> str:
        """All that it logged so far."""
        return self.log_path.read_text("utf-8", "replace")

    def client(self) -> Client:
        """A blocking client of its own."""
        return Client(self.socket)

    def stats(self) -> dict[str, Any]:
        """Its counters."""
        with self.client() as client:
            return client.stats()

    def wait_ready(self) -> Daemon:
        """Until every worker answers."""
        wait_for(
            "the daemon to be ready", lambda: self._ended() or ("INFO hacd: supervisor" in self.log and self._ready())
        )
        self.children()
        return self

    def _ready(self) -> bool:
        return any(line.endswith(": ready") for line in self.log.splitlines())

    def _ended(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log}")
        return False

    def children(self) -> list[psutil.Process]:
        """Its front and workers, as they are now."""
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        self._seen.update(children)
        return children

    def pid(self, name: str) -> int:
        """The process of that name: "front", "worker 1", …; waits for it. "front" is the first of several."""
        return wait_for(f"process {name}", lambda: self._pid(name))

    def _pid(self, name: str) -> int:
        for child in self.children():
            try:
                if child.cmdline()[:1] in ([f"hacd: {name}"], [f"hacd: {name} 1"]):
                    return int(child.pid)
            except psutil.Error:
                continue  # it ended while we looked
        return 0

    def give_up(self, name: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Kill that child each time that it lives, until the supervisor tries no more; `meanwhile` is called often."""
        self.tolerate.add(" ERROR ")

        def given_up() -> bool:
            if pid := self._pid(name):
                with suppress(ProcessLookupError):  # it ended while we looked
                    os.kill(pid, signal.SIGKILL)
            meanwhile()
            return f"{name} is given up: it died 12 times in a row" in self.log

        wait_for("it to be given up", given_up, 60)

    def wait_idle(self) -> dict[str, Any]:
        """Until nothing is in flight; the counters then."""
        return wait_for("nothing in flight", lambda: (stats := self.stats())["in_flight"] == 0 and stats)

    # -- the end

    def terminate(self, signum: int = signal.SIGTERM) -> int:
        """Stop it as an operator does; its exit code."""
        if self.process.poll() is None:
            self.children()
            self.process.send_signal(signum)
        return self.process.wait(30)

    def close(self) -> None:
        """Stop it and check what it left behind."""
        code = self.process.poll()
        if code is None:
            self.balance()
            assert self.terminate() == 0, self.log
        orphans = [process for process in self._seen if process.is_running() and process.status() != "zombie"]
        for orphan in orphans:
            orphan.kill()
        assert not orphans, f"orphans: {orphans}\n{self.log}"
        if code is None:
            left = {path.name for path in self.directory.iterdir() if path.is_socket()}
            assert left == ({"hacd.sock"} if self._activated else set())
        found = [word for word in FORBIDDEN if word in self.log and word not in self.tolerate]
        assert not found, f"{found} in the log:\n{self.log}"

    def balance(self) -> None:
        """requests = replies + errors + timeouts + in_flight, at every moment."""
        try:
            stats = self.stats()
        except HacdError:
            return  # it is on its way down, or its front is being replaced
        ended = stats["replies"] + stats["errors"] + stats["timeouts"]
        assert stats["requests"] == ended + stats["in_flight"], stats
