"""What is set, while the daemon runs: `set` changes one setting, `reload` reads all of them again.

Law: a change is judged whole before any of it holds; what is refused leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from hacd import log
from hacd.errors import BadRequest, SettingsError
from hacd.front.front import Front
from hacd.front.routing.script import LONGEST, check_apart, load
from hacd.routes import Table
from hacd.settings import Settings, Source, check_files
from hacd.settings.live import dump, merged, restore, with_value


class Made(NamedTuple):
    """What a change makes of the settings, what its caller is told, and what the log is, given who wanted it."""

    settings: Settings
    result: Any
    loads: bool  # routes
    line: Callable[[str], tuple[Any, ...]]
    at_start: list[str]


#: makes a change of the settings that are in force. Raises SettingsError
Make = Callable[[Settings], Made]


class Change(NamedTuple):
    """What was judged, and can be made. `made`: what came of it then; `routes`: path and table, if it loads them."""

    method: str
    make: Make
    made: Made
    routes: tuple[str, Table] | None


class Control:
    """Changes what a front works by. `on_change(settings)` is told what is in force then."""

    def __init__(self, source: Source, front: Front, on_change: Callable[[Settings], None]) -> None:
        self._source = source
        self._front = front
        self._on_change = on_change
        #: how often the settings were changed: of two fronts that differ, the one with more has what holds
        self.version = 0

    def start(self) -> None:
        """Load the routes. They were judged before this front began; a file that has changed since may be wrong."""
        path = self._front.settings.hacd.routes
        try:
            self._front.router.replace(path, _load_routes(path, LONGEST))
        except SettingsError as error:
            log.error("no routes: %s", error)

    def set(self, name: str, value: Any, who: str) -> bool:
        """Change one setting, until the next reload or restart. Raises BadRequest."""
        return bool(self.make(self.judge("set", [name, value]), who))

    def reload(self, who: str) -> dict[str, list[str]]:
        """Read file, environment and routes again; what `set` changed goes. Raises BadRequest."""
        result: dict[str, list[str]] = self.make(self.judge("reload", self.whole("reload", [])), who)
        return result

    def whole(self, method: str, params: list[Any]) -> list[Any]:
        """What a change is made of: of a reload, the settings as they were read. Raises BadRequest."""
        if method == "set":
            return params
        try:
            return [dump(self._source.load())]
        except SettingsError as error:
            raise _refused(method, error) from None

    def judge(self, method: str, params: list[Any]) -> Change:
        """A change that can be made. Raises BadRequest."""
        make: Make = partial(_set, *params) if method == "set" else partial(_reload, restore(params[0]))
        try:
            made = make(self._front.settings)
            return Change(method, make, made, self._judge(made))
        except SettingsError as error:
            raise _refused(method, error if method == "set" else self._source.placed(error)) from None

    def _judge(self, made: Made) -> tuple[str, Table] | None:
        """The routes that it loads, if it does. Raises SettingsError."""
        settings = made.settings
        target = settings.hacd.log_target
        if target != self._front.settings.hacd.log_target:
            log.check_target(target)
        check_files(settings)
        if not made.loads:
            return None
        # Read twice, while the loop does not turn: a front that hung would be killed for it.
        path = settings.hacd.routes
        return path, _load_routes(path, min(LONGEST, settings.hacd.front_timeout / 3000))

    def make(self, change: Change, who: str, say: Callable[..., None] = log.info, version: int = 0) -> Any:
        """It holds from now on; what its caller is told. `version`: what that makes of it at the front that asked."""
        self.version = max(self.version, version or self.version + 1)
        settings = self._now(change)
        if change.routes is not None:
            self._front.router.replace(*change.routes)
        self._front.configure(settings)
        self._on_change(settings)
        say(*change.made.line(who))
        if change.made.at_start:
            what = ", ".join(change.made.at_start)
            log.warning("what is read at the start only stays as it was until then: %s", what)
        return change.made.result

    def _now(self, change: Change) -> Settings:
        """What it makes of the settings that are in force by now.

        They may not be those by which it was judged: SIGHUP came in between, or another front made this very change,
        and the supervisor told of it first.
        """
        try:
            return change.make(self._front.settings).settings
        except SettingsError:  # both together are too long
            return change.made.settings

    def adopt(self, version: int, settings: Settings) -> None:
        """The other fronts made a change. Where this one was not asked, since it has just begun, it does it too."""
        if version <= self.version:
            return
        self.version = version
        path = self._front.settings.hacd.routes
        log.reconfigure(settings.hacd)
        self._front.configure(settings)
        if settings.hacd.routes != path:
            self.start()


def _set(name: str, value: Any, current: Settings) -> Made:
    settings, whole = with_value(current, name, value)
    return Made(settings, True, whole == "hacd.routes", lambda who: ("%s is set to %r by %s", whole, value, who), [])


def _reload(loaded: Settings, current: Settings) -> Made:
    settings, changed, at_start = merged(current, loaded)
    result = {"changed": changed, "at_start": at_start}
    what = ", ".join(changed) or "nothing"
    return Made(settings, result, True, lambda who: ("reloaded by %s: changed %s", who, what), at_start)


def _refused(method: str, error: SettingsError) -> BadRequest:
    if method == "reload":
        log.error("reload refused, all stays as it was: %s", error)
    return BadRequest(f"{method}: {error}")


def _load_routes(path: str, longest: float) -> Table:
    """That file's routes. It is judged in a process of its own first: what it does there is done to nobody."""
    if not path:
        return {}
    check_apart(path, longest)
    return load(path)
