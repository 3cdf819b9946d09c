"""How much is kept for the next query: connections to origins, and handles.

Law: it follows what is in flight. libcurl counts connections that are used as kept, and closes one too many when its
transfer ends: with a fixed number, a thousand slow transfers would leave nothing to all the others.
"""

from __future__ import annotations

import resource

import pycurl

#: connections that are kept at the least, used or not
CONNECTIONS = 1024

#: of the descriptors that this process may have, the share that connections may take
SHARE = 2


class Room:
    """Of one CurlMulti. `handles`: how many may lie idle."""

    def __init__(self, multi: pycurl.CurlMulti) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(CONNECTIONS, limit // SHARE if limit != resource.RLIM_INFINITY else 1 << 24)
        self._multi = multi
        self._set(CONNECTIONS)

    def _set(self, connections: int) -> None:
        self._connections = connections
        self.handles = self.enough = connections // 2
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)
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
        if self._connections > CONNECTIONS and in_flight < self._connections // 8:
            self._set(max(CONNECTIONS, self._connections // 2))
