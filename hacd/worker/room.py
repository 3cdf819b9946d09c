"""How much is kept for the next query: connections to origins, and handles.

Law: it follows what is in flight. libcurl counts connections that are used as kept, and closes one too many when its
transfer ends: with a fixed number, a thousand slow transfers would leave nothing to all the others.
"""

from __future__ import annotations

import resource

import pycurl

#: connections that are kept at the least, used or not
CONNECTIONS = 1024

#: descriptors of bodies and arenas, of names that are looked up, and of the process itself
OTHERS = 1536

#: of the descriptors that this process may have, the share that connections may take
SHARE = 2


def descriptors() -> int:
    """How many connections may take at the most."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 24 if limit == resource.RLIM_INFINITY else limit // SHARE


def transfers() -> int:
    """How many there may be at once: each may need a descriptor, and some are kept for what else a worker has open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 24 if limit == resource.RLIM_INFINITY else max(limit // 2, limit - OTHERS)


class Room:
    """Of one CurlMulti, which keeps `least` connections in any case. `handles`: how many may lie idle."""

    def __init__(self, multi: pycurl.CurlMulti, least: int = CONNECTIONS) -> None:
        self._most = max(least, descriptors())
        self._least = least
        self._multi = multi
        self._set(least)

    def _set(self, connections: int) -> None:
        self._connections = connections
        self.handles = self.enough = connections // 2
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
        # Used or kept, there are never as many. But of those that are closed, libcurl waits for the goodbye of TLS, and
        # for as long as the origin keeps still: past this bound it waits no more for the one closed first.
        self._multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, 2 * connections)
        if connections >= self._most:
            self.enough = 1 << 62  # transfers; it grows no more

    def grow(self, in_flight: int) -> None:
        """More than `enough` transfers are in flight: keep as many connections beside those that they use."""
        connections = self._connections
        while connections < 2 * in_flight:
            connections *= 2
        self._set(min(connections, self._most))

    def look(self, in_flight: int) -> None:
        """To be called now and then: a peak is over, and what it left behind goes bit by bit."""
        if self._connections > self._least and in_flight < self._connections // 8:
            self._set(max(self._least, self._connections // 2))
