"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pycurl

from bench import origin
from hacd import __version__, loop


def describe() -> dict[str, str]:
    """The machine and the versions of all that is at work."""
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "hacd": __version__,
        "libcurl": pycurl.version_info()[1],
        "pycurl": version("pycurl"),
        "loop": loop.version(),
        "nginx": origin.version().removeprefix("nginx/"),
        **{name: _version(name) for name in ("aiohttp", "httpx")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
