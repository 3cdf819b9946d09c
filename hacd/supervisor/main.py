"""The daemon's life, in the foreground: what comes before the supervisor begins to fork."""

from __future__ import annotations

import os
import resource

from hacd import log
from hacd.settings import Settings, Source, slots
from hacd.supervisor import activation
from hacd.supervisor.notify import Notify
from hacd.supervisor.supervisor import Supervisor

#: Connections to origins that a worker keeps open, bodies in shared memory, and what each process has open for itself.
#: The first two are `hacd.worker`'s, which this process does not import: it has to fork without libcurl.
CONNECTIONS, BODIES, OWN = 1024, 512, 64


def main(source: Source, settings: Settings, path: str) -> None:
    """The daemon's life, in the foreground."""
    import setproctitle

    given = activation.take(os.environ)  # before anything takes that descriptor's number
    notify = Notify(os.environ)
    wanted, path = path, activation.path_of(given) if given else path
    setproctitle.setproctitle(f"hacd: supervisor {path}")
    log.configure("supervisor", settings.hacd)
    supervisor = Supervisor(source, settings, path, given, notify)
    log.pass_to(supervisor.relay.take)
    _raise_open_files(settings)
    _log_rounding(settings)
    if given:
        _log_activation(settings, path, wanted)
    if settings.hacd.routes:
        from hacd.front.routing.script import check_apart

        check_apart(settings.hacd.routes)
    supervisor.run()


def _raise_open_files(settings: Settings) -> None:
    """A daemon holds many sockets: take what the system allows without asking, and say whether that suffices."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    need = open_files(settings)
    if hard == resource.RLIM_INFINITY or need <= hard:
        log.info("open files: %d a process suffice, the limit is %d", need, hard)
    else:
        log.warning(
            "open files: a process may need %d, and the limit is %d: raise it (ulimit -Hn, LimitNOFILE=), "
            "or lower limits.max_clients",
            need,
            hard,
        )


def open_files(settings: Settings) -> int:
    """Descriptors that the process with the most of them may need: the front for callers, or a worker for origins."""
    front = settings.limits.max_clients + settings.http_async_client.workers
    return max(front, CONNECTIONS) + BODIES + OWN


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
