"""Waiting by polling: a test says what must come true, never how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: s; far beyond what anything here takes, so that only a failure waits that long
PATIENCE = 20.0


def wait_for(what: str, probe: Callable[[], T], patience: float = PATIENCE) -> T:
    """The first true thing that `probe` returns. Fails the test after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for: {what}")
        time.sleep(0.002)
