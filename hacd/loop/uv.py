"""The loop on pyuv: pyuv's handles as they are, and a Loop that does not swallow exceptions."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import pyuv
from pyuv import Poll, Prepare, Signal, Timer

__all__ = ["Loop", "Poll", "Prepare", "Signal", "Timer"]


class Loop(pyuv.Loop):  # type: ignore[misc]
    """pyuv's loop. What a callback raises stops it, and `run` raises that (pyuv only prints it)."""

    def __init__(self) -> None:
        self._raised: BaseException | None = None
        self.excepthook = self._keep

    def _keep(self, _kind: type[BaseException], raised: BaseException, _trace: TracebackType) -> None:
        if self._raised is None:
            self._raised = raised
        self.stop()

    def run(self, *mode: Any) -> None:
        """Run until `stop`, or until no handle is left. Raises what a callback raised."""
        super().run(*mode)
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def close(self) -> None:
        """Close every handle that is left, and let their close callbacks run."""
        for handle in self.handles:
            if not handle.closed:
                handle.close()
        super().run()
