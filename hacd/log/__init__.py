"""The log: one line an event, the same form from each process, to where `hacd.log_target` says.

Law: to log is to raise nothing and to wait for nothing. What one process logs it writes itself, so that
nothing is lost when another is stuck, and passes on, for who tails the log (`pass_to`). What is logged
while that is done is not passed on: it would never end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hacd.errors import SettingsError
from hacd.log import hooks, targets
from hacd.log.entry import FORMS, Entry, entry
from hacd.log.targets import check as check_target
from hacd.settings import Hacd

__all__ = [
    "about",
    "check_target",
    "configure",
    "debug",
    "error",
    "info",
    "logger",
    "pass_to",
    "reconfigure",
    "reopen",
    "shows_secrets",
    "warning",
]

logger = logging.getLogger("hacd")
logger.propagate = False

info = logger.info
warning = logger.warning
error = logger.error
debug = logger.debug

#: takes what was logged, for who tails the log
Sink = Callable[[Entry], None]


def about(id_: str, route: str = "") -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose lines name a query: `about(id).info(…)`."""
    return logging.LoggerAdapter(logger, {"query_id": id_, "route": route})


class Handler(logging.Handler):
    """Writes what is logged to the target, and passes it on."""

    def __init__(self) -> None:
        super().__init__()
        self.process = ""
        self.secrets = False
        self.form = FORMS["text"]
        self.target: targets.Target | None = None
        self.target_name = ""
        self.sink: Sink | None = None
        self._passing = False
        self._sink_failed = False  # told once
        self._untaken = 0  # events that the target did not take
        self._untaken_by = ""

    def render(self, event: Entry) -> str:
        """An event in the form that `log_format` names."""
        return self.form(event)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, and pass it on."""
        try:
            event = entry(record, self.process, self.secrets)
        except Exception as error:  # noqa: BLE001
            event = self._unfit(record, error)
        self._write(event)
        if self.sink is not None and not self._passing:
            self._passing = True
            try:
                self.sink(event)
            except Exception as error:  # noqa: BLE001
                self._sink_fails(event, error)
            finally:
                self._passing = False

    def _unfit(self, record: logging.LogRecord, error: Exception) -> Entry:
        """In place of a record whose text and arguments do not fit: where it came from."""
        text = f"{record.pathname}:{record.lineno}: a line cannot be logged: {type(error).__name__}"
        return Entry(record.created, "error", self.process, record.process or 0, "", "", text)

    def _sink_fails(self, event: Entry, error: Exception) -> None:
        if not self._sink_failed:
            self._sink_failed = True
            text = f"who tails the log misses lines: {type(error).__name__} where they are passed on"
            self._write(event._replace(level="error", id="", route="", message=text))

    def _write(self, event: Entry) -> None:
        if self.target is None:
            return
        try:
            if self._untaken:
                text = f"{self._untaken} lines were lost: {self._untaken_by} did not take them"
                self.target.write(event._replace(level="error", id="", route="", message=text))
                self._untaken = 0
            self.target.write(event)
        except Exception:  # noqa: BLE001
            self._untaken += 1  # told with the next that is taken
            self._untaken_by = self.target_name

    def open(self, name: str) -> None:
        """Log to that target from now on. Raises SettingsError, and then all is as before."""
        opened = targets.open_target(name, self.render)
        if self.target is not None:
            self.target.close()
        self.target, self.target_name = opened, name


_handler = Handler()


def configure(process: str, settings: Hacd) -> None:
    """Log under the name of `process`, as `settings` say. May be called again, when they have changed.

    Raises SettingsError where the target cannot be had and there is none yet; later the old one is kept.
    """
    _handler.process = process
    _handler.secrets = settings.log_secrets
    _handler.form = FORMS[settings.log_format]
    logger.handlers[:] = [_handler]
    hooks.install(_handler)
    logger.setLevel(settings.log_level.upper())
    if _handler.target_name == settings.log_target:
        return
    try:
        _handler.open(settings.log_target)
    except SettingsError as wrong:
        if _handler.target is None:
            raise
        error("%s; the log stays where it is", wrong)


def reconfigure(settings: Hacd) -> None:
    """These settings hold now."""
    configure(_handler.process, settings)


def reopen() -> None:
    """The log's file was moved away (SIGUSR1): go on in a new one."""
    if _handler.target is None:
        return
    try:
        if _handler.target.reopen():
            info("log re-opened")
    except OSError as failure:
        error("%s cannot be opened anew: %s; the old file is kept", _handler.target_name, failure.strerror)


def pass_to(sink: Sink | None) -> None:
    """Have `sink` take, from now on, what this process logs."""
    _handler.sink = sink


def shows_secrets() -> bool:
    """Whether `log_secrets` is set."""
    return _handler.secrets
