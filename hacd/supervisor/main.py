"""The daemon's life, in the foreground: what comes before the supervisor begins to fork."""

from __future__ import annotations

import os

from hacd import log
from hacd.settings import Settings, Source, slots
from hacd.supervisor import activation, open_files
from hacd.supervisor.notify import Notify
from hacd.supervisor.supervisor import Supervisor


def main(source: Source, settings: Settings, path: str) -> None:
    """The daemon's life, in the foreground."""
    import setproctitle

    given = activation.take(os.environ)  # before anything takes that descriptor's number
    notify = Notify(os.environ)
    wanted, path = path, activation.path_of(given) if given else path
    setproctitle.setproctitle(f"hacd: supervisor {path}")
    log.configure("supervisor", settings.hacd)
    supervisor = Supervisor(source, settings, path, given, notify)
    log.pass_to(supervisor.take_log)
    open_files.take_all()
    _log_rounding(settings)
    if given:
        _log_activation(settings, path, wanted)
    if settings.hacd.routes:
        from hacd.front.routing.script import check_apart

        check_apart(settings.hacd.routes)
    supervisor.run()


def _log_rounding(settings: Settings) -> None:
    size = settings.http_async_client.hash_size
    if slots(size) != size:
        log.info("hash_size %d is no power of two: rounded down to %d", size, slots(size))


def _log_activation(settings: Settings, path: str, wanted: str) -> None:
    log.info("the socket is systemd's, with the permissions that it has there")
    if wanted != path:
        log.warning("hacd.socket: %s is not listened on: systemd gave %s", wanted, path)
    for name in ("socket_owner", "socket_group"):
        if getattr(settings.hacd, name):
            log.warning("hacd.%s has no effect on a socket of systemd's", name)
