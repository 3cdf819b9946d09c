"""What is set, while the daemon runs: `set` changes one setting, `reload` reads all of them again.

Law: a change is judged whole before any of it holds; what is refused leaves all as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hacd import log
from hacd.errors import BadRequest, SettingsError
from hacd.front.front import Front
from hacd.front.routing.script import LONGEST, check_apart, load
from hacd.settings import Settings, Source, check_files
from hacd.settings.live import merged, with_value


class Control:
    """Changes what a front works by. `on_change(settings)` is told what is in force then."""

    def __init__(self, source: Source, front: Front, on_change: Callable[[Settings], None]) -> None:
        self._source = source
        self._front = front
        self._on_change = on_change

    def start(self) -> None:
        """Load the routes. They were judged before the daemon started; a file that has changed since may be wrong."""
        try:
            self._load_routes(self._front.settings.hacd.routes, LONGEST)
        except SettingsError as error:
            log.error("no routes: %s", error)

    def set(self, name: str, value: Any, who: str) -> str:
        """Change one setting, until the next reload or restart; its whole name. Raises BadRequest."""
        try:
            settings, whole = with_value(self._front.settings, name, value)
            self._change(settings, routes=whole == "hacd.routes")
        except SettingsError as error:
            raise BadRequest(f"set: {error}") from None
        log.info("%s is set to %r by %s", whole, value, who)
        return whole

    def reload(self, who: str) -> dict[str, list[str]]:
        """Read file, environment and routes again; what `set` changed goes. Raises BadRequest."""
        try:
            settings, changed, at_start = merged(self._front.settings, self._source.load())
            self._change(settings, routes=True)
        except SettingsError as error:
            log.error("reload refused, all stays as it was: %s", error)
            raise BadRequest(f"reload: {error}") from None
        log.info("reloaded by %s: changed %s", who, ", ".join(changed) or "nothing")
        if at_start:
            log.warning("what is read at the start only stays as it was until then: %s", ", ".join(at_start))
        return {"changed": changed, "at_start": at_start}

    def _change(self, settings: Settings, routes: bool) -> None:
        target = settings.hacd.log_target
        if target != self._front.settings.hacd.log_target:
            log.check_target(target)
        check_files(settings)
        if routes:
            # Read twice, while the loop does not turn: a front that hung would be killed for it.
            self._load_routes(settings.hacd.routes, min(LONGEST, settings.hacd.front_timeout / 3000))
        self._front.configure(settings)
        self._on_change(settings)

    def _load_routes(self, path: str, longest: float) -> None:
        """Take that file's routes. It is judged in a process of its own first: what it does there is done to nobody."""
        if path:
            check_apart(path, longest)
        self._front.router.replace(path, load(path) if path else {})
