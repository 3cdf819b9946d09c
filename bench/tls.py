"""A certificate for the origin on loopback, made for one run, and in each form that a contender wants it in."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError

#: days: a run is shorter
_DAYS = "2"


@dataclass(frozen=True)
class Authority:
    """It signs itself: the file that shows it is also the authority to trust. `path`: as `tls_ca_path` wants it."""

    certificate: Path
    key: Path
    path: Path


def authority(directory: Path) -> Authority | None:
    """A new one in `directory`; None where there is no openssl to make it."""
    if shutil.which("openssl") is None:
        return None
    made = Authority(directory / "origin.pem", directory / "origin.key", directory / "authorities")
    made.path.mkdir(exist_ok=True)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", _DAYS, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    _openssl([*command, "-keyout", str(made.key), "-out", str(made.certificate)])
    shutil.copy(made.certificate, made.path)
    _openssl(["openssl", "rehash", str(made.path)])
    return made


def _openssl(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{' '.join(command[:2])}: exit code {done.returncode}: {done.stderr.strip()}")
