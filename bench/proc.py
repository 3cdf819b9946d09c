"""What the kernel knows of a process: its CPU time, its peak memory, its children."""

from __future__ import annotations

import os
from pathlib import Path

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_ns(pid: int) -> int:
    """CPU time of a process, ns: of the scheduler where it tells, else in ticks of the clock."""
    total = 0
    for task in (_PROC / str(pid) / "task").iterdir():
        # A process's own schedstat is its first thread's alone.
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (OSError, IndexError, ValueError):
            return _ticks_ns(pid)
    return total or _ticks_ns(pid)


def _ticks_ns(pid: int) -> int:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * _TICK_NS


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold blanks."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def peak_memory_kib(pid: int) -> int:
    """The most that was resident at a time, KiB (VmHWM)."""
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def children(parent: int, title: str) -> list[int]:
    """The children of `parent` whose title begins so, in the order of their ids."""
    return [pid for pid in _pids() if _parent(pid) == parent and _title(pid).startswith(title)]


def _pids() -> list[int]:
    return sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except (OSError, IndexError):
        return 0  # it ended meanwhile


def _title(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def pss_kib(pid: int) -> int:
    """Memory of a process now, KiB, with its share of what others map too (Pss)."""
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


#: of a socket that is connected, in /proc/net/tcp
_ESTABLISHED = "01"


def connections(port: int) -> int:
    """TCP connections over IPv4 from here to that port."""
    rows = (line.split()[2:4] for line in (_PROC / "net/tcp").read_text().splitlines()[1:])
    return sum(state == _ESTABLISHED and int(remote.rpartition(":")[2], 16) == port for remote, state in rows)
