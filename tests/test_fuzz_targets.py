"""The fuzz targets on their seeds: none of them breaks hacd, and each of them can tell when something does."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from fuzz.targets import TARGETS

SEEDS = [
    pytest.param(name, seed, id=f"{name}-{number}")
    for name, target in TARGETS.items()
    for number, seed in enumerate(target.seeds)
]


@pytest.mark.parametrize(("name", "seed"), SEEDS)
def test_seeds(name: str, seed: bytes) -> None:
    """Whole, and cut short at every length: that reaches what a coverage-guided run begins with."""
    run = TARGETS[name].run
    for end in range(len(seed) + 1):
        run(seed[:end])


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fuzz", *words], capture_output=True, text=True, check=False)


def test_an_input_can_be_run_again() -> None:
    again = fuzz("--target", "pseudovars", "--input", repr(b"$(rU{s.escape.param})"))
    assert (again.returncode, again.stderr) == (0, "")
    assert fuzz("--input", "b''").returncode == 2  # of which target?
    assert fuzz("--target", "pseudovars", "--input", "'text'").returncode == 2


@pytest.mark.skipif(find_spec("atheris") is not None, reason="atheris is here")
def test_without_atheris_it_says_so() -> None:
    said = fuzz("--seconds", "1")
    assert said.returncode == 2
    assert said.stderr.startswith("atheris is not installed")
