"""A daemon that does nothing: its memory, the time until it serves, and what one `hacd query` takes as a command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench import ROOT, BenchError, daemon, proc
from bench.comparison import Comparison, Measure, Plan, Sample, Side, Stage, figure
from bench.measure import now
from bench.origin import BODY_SIZE
from bench.processes import PATIENCE, running, tail

#: s after READY until the memory is looked at
_SETTLE = 0.5

#: commands in a round
_COMMANDS = 5

_PROCESSES = ("hacd: front", "hacd: worker")


def _idle(stage: Stage) -> Sample:
    path, log = stage.directory / "hacd.sock", stage.directory / "hacd.log"
    command = daemon.command(stage.directory, path, 1, (), "")
    with _notified(stage.directory) as (notify, environment), log.open("w") as stderr:
        begun = now()
        with running(command, stderr=stderr, env=environment) as process:
            ready = (_until_ready(notify, log) - begun) / 1e6
            time.sleep(_SETTLE)
            pids = [process.pid, *(pid for title in _PROCESSES for pid in proc.children(process.pid, title))]
            if len(pids) != 1 + len(_PROCESSES):
                raise BenchError(f"idle: {len(pids)} processes of hacd's, not {1 + len(_PROCESSES)}: {tail(log)}")
            pss = [proc.pss_kib(pid) / 1024 for pid in pids]
            took, failures, failure = _commands(stage.origin.url, path)
    names = ("pss.supervisor", "pss.front", "pss.worker")
    values = {"pss.sum": sum(pss), "ready_ms": ready, "command_ms": median(took)}
    return Sample(values | dict(zip(names, pss, strict=True)), failures, failure)


@contextmanager
def _notified(directory: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A socket on which a daemon with that environment says what it says to systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        path = str(directory / "notify.sock")
        notify.bind(path)
        notify.settimeout(PATIENCE)
        yield notify, os.environ | {"NOTIFY_SOCKET": path}


def _until_ready(notify: socket.socket, log: Path) -> int:
    """When READY came, ns."""
    try:
        while b"READY=1" not in notify.recv(65536).split(b"\n"):
            continue
    except TimeoutError:
        raise BenchError(f"idle: no READY within {PATIENCE:.0f} s: {tail(log)}") from None
    return now()


def _commands(url: str, path: Path) -> tuple[list[float], int, str]:
    """How long each took, ms, how many failed, and the first that did."""
    took: list[float] = []
    failed: list[str] = []
    for _ in range(_COMMANDS):
        begun = now()
        command = [sys.executable, "-m", "hacd", "query", "--socket", str(path), url]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
        took.append((now() - begun) / 1e6)
        if done.returncode or len(done.stdout) != BODY_SIZE:
            failed.append(f"exit code {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return took, len(failed), failed[0] if failed else ""


def comparison(_plan: Plan) -> Comparison:
    """The last row of the table. A page that several processes map counts once in the sum (Pss)."""
    return Comparison(
        "idle",
        "idle daemon, 1 worker",
        (Side("hacd", "hacd", _idle),),
        (
            Measure("memory of all its processes (PSS)", figure("pss.sum", "hacd"), 80, 50, "MiB", True, 1),
            Measure("start to READY", figure("ready_ms", "hacd"), 600, 300, "ms", True, 0),
            Measure("`hacd query`, the whole command", figure("command_ms", "hacd"), 150, 90, "ms", True, 0),
        ),
        note=f"READY as systemd hears it. Of {_COMMANDS} commands in a round the median.",
    )
