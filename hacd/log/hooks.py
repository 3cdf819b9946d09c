"""What Python itself would print on stderr: exceptions that nobody can be given, and warnings.

Law: each is one line of the log, with what the log hides hidden, and bounded in size and in number:
a daemon's route can cause them as often as it is entered.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from types import FunctionType, TracebackType
from typing import TextIO

from hacd.log.sparing import Sparing

_complaints = Sparing()


def install(handler: logging.Handler) -> None:
    """Have `handler` log them, and what others log with no handler of their own."""
    sys.unraisablehook = _unraisable
    sys.excepthook = _uncaught
    threading.excepthook = _thread
    warnings.showwarning = _warning
    logging.lastResort = handler
    logging.raiseExceptions = False  # it would print what fails in other handlers


def _told(error: BaseException | None, kind: type[BaseException] | None, trace: TracebackType | None) -> str:
    """An exception in a line: its last place, and what it says."""
    text = "".join(traceback.format_exception_only(kind, error)).strip() if kind else "no exception"
    last = None
    while trace is not None:
        last, trace = trace, trace.tb_next
    return text if last is None else f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}: {text}"


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    # Nothing is asked of the object itself, which may be on its way out.
    kind = type(what.object)
    name = what.object.__qualname__ if isinstance(what.object, FunctionType) else f"a {kind.__name__}"
    said = what.err_msg or "exception ignored in"
    _complaints.warning("%s %s: %s", said, name, _told(what.exc_value, what.exc_type, what.exc_traceback))


def _thread(what: threading.ExceptHookArgs) -> None:
    name = what.thread.name if what.thread else "that has gone"
    _complaints.warning("thread %s ends: %s", name, _told(what.exc_value, what.exc_type, what.exc_traceback))


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("hacd").critical("uncaught exception", exc_info=(kind, error, trace))


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del file, line
    _complaints.warning("%s:%d: %s: %s", filename, lineno, category.__name__, message)
