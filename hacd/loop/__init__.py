"""The loop and its handles. Law: the only importer of pyuv, or of uvloop behind the same handles.

`Loop`, and four handles of it: `Poll` (a descriptor is ready), `Timer` (time has come),
`Signal`, and `Prepare` (runs each time before the loop waits: the place to flush what a
wake-up gathered). They are pyuv's own classes and signatures, so that the hot path has no
layer above them; where pyuv is not installed, `fallback` has the same on uvloop.

A loop belongs to the process that made it: make it after the fork. Keep each handle
referenced until it is closed. An exception in a callback ends `run`, which raises it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hacd.settings import loop_name

__all__ = ["NAME", "READABLE", "WRITABLE", "Loop", "Poll", "Prepare", "Signal", "Timer"]

READABLE, WRITABLE = 1, 2


NAME = loop_name(os.environ)

if TYPE_CHECKING or NAME == "pyuv":
    from hacd.loop.uv import Loop, Poll, Prepare, Signal, Timer
else:
    from hacd.loop.fallback import Loop, Poll, Prepare, Signal, Timer


def version() -> str:
    """Name and version of the loop in use, for people."""
    module: Any = __import__(NAME)
    return f"{NAME}/{module.__version__}"
