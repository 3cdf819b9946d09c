"""Open files: the limit is raised as far as it goes, and judged by what a process may need."""

from __future__ import annotations

import resource

from hacd import log, shared
from hacd.settings import Settings

#: Connections to origins that a worker keeps open, bodies and arenas, and what each process has open for itself.
#: The first is `hacd.worker`'s, which this process does not import: it has to fork without libcurl.
CONNECTIONS, SHARED, OWN = 1024, shared.BODIES + shared.ARENAS, 64


def take_all() -> None:
    """A daemon holds many sockets: take what the system allows without asking."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def judge(settings: Settings) -> None:
    """Log whether the limit suffices."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = need(settings)
    if limit == resource.RLIM_INFINITY or most <= limit:
        log.info("open files: %d a process suffice, the limit is %d", most, limit)
    else:
        log.warning(
            "open files: a process may need %d, and the limit is %d: raise it (ulimit -Hn, LimitNOFILE=), "
            "or lower limits.max_clients",
            most,
            limit,
        )


def need(settings: Settings) -> int:
    """Descriptors that the process with the most of them may need: the front for callers, or a worker for origins."""
    fronts = settings.hacd.fronts
    front = settings.limits.max_clients // fronts + settings.http_async_client.workers
    if fronts > 1:  # of the others each has one connection of its own and one of this one's
        front += 2 * (fronts - 1) + shared.OFFERING
    return max(front, CONNECTIONS) + SHARED + OWN
