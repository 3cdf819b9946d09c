"""The log: one line an event, the same form from each process.

`2026-01-31 12:00:00.123 INFO hacd: worker 1[4242]: text`. Time here is the wall clock: it is
for people. Nothing that expires is reckoned by it.
"""

from __future__ import annotations

import logging
import sys

logger = logging.getLogger("hacd")

info = logger.info
warning = logger.warning
error = logger.error
debug = logger.debug


class OneLine(logging.Formatter):
    """A record on one line: a line break that came in with foreign text starts no line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; only a traceback has more than one line."""
        text = super().format(record)
        return text if record.exc_info else text.replace("\r", "\\r").replace("\n", "\\n")


def configure(process: str, level: str) -> None:
    """Log to stderr under the name of `process`, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    form = f"%(asctime)s.%(msecs)03d %(levelname)s {process}[%(process)d]: %(message)s"
    handler.setFormatter(OneLine(form, "%Y-%m-%d %H:%M:%S"))
    logger.handlers[:] = [handler]
    set_level(level)
    logger.propagate = False


def set_level(level: str) -> None:
    """Log from `level` on."""
    logger.setLevel(level.upper())
