"""What the workers' libcurl can do, and whether a query asks for more. No socket and no clock.

Law: what libcurl lacks is refused by its name, before anything is sent. What it has, the workers say when
they say hello; until then nothing is refused here.
"""

from __future__ import annotations

from typing import Any

from hacd import log
from hacd.errors import BadRequest
from hacd.rpc import unpack

AUTHMETHODS = {1: "Basic", 2: "Digest", 4: "Negotiate", 8: "NTLM", 16: "Digest with IE flavour"}
HTTP_VERSIONS = {0: "libcurl's choice", 1: "HTTP/2 with upgrade", 2: "HTTP/2 by prior knowledge", 3: "HTTP/3"}

#: shapes that are known to be right, and not judged again
FINE_MAX = 512


class Capabilities:
    """Judges queries by their shape."""

    def __init__(self) -> None:
        self._authmethod = 0
        self._authmethods = sum(AUTHMETHODS)
        self._http_versions = frozenset(HTTP_VERSIONS)
        self._fine: set[bytes] = set()

    def configure(self, authmethod: int) -> None:
        """The parameter of that name, for logins that name none of their own."""
        if authmethod != self._authmethod:
            self._authmethod = authmethod
            self._changed()

    def learn(self, authmethods: Any, http_versions: Any) -> None:
        """What a worker says of its libcurl. Raises TypeError or ValueError if that cannot be."""
        said = int(authmethods), frozenset(map(int, http_versions))
        if said != (self._authmethods, self._http_versions):
            self._authmethods, self._http_versions = said
            self._changed()

    def _changed(self) -> None:
        self._fine.clear()
        if not self._can(self._authmethod):
            log.error("parameter %s; queries with a login of no other method are refused", self._no(self._authmethod))

    def judge(self, shape: bytes, login: bool) -> None:
        """Raises BadRequest if libcurl cannot do what the query asks for. `shape`: its packed sticky options."""
        if shape in self._fine:
            return
        options = unpack(shape) if shape else {}
        version = options.get("http_version", 0)
        if version not in self._http_versions:
            raise BadRequest(self._no_version(version))
        named = options.get("authmethod")
        if not self._can(named or self._authmethod):
            if named or login:
                raise BadRequest(self._no(named or self._authmethod))
            return  # and with a login the same shape would be wrong
        if len(self._fine) >= FINE_MAX:
            self._fine.clear()
        self._fine.add(shape)

    def _can(self, authmethod: int) -> bool:
        """One method of the sum is enough: of those that it has, libcurl takes what the server offers."""
        return bool(authmethod & self._authmethods)

    def _no(self, authmethod: int) -> str:
        lacking = [name for number, name in AUTHMETHODS.items() if number & authmethod]
        there = [f"{number} {name}" for number, name in AUTHMETHODS.items() if number & self._authmethods]
        return (
            f"authmethod: {authmethod} ({', '.join(lacking)}) is wrong: "
            f"this libcurl has no {' and no '.join(lacking)}; it has {', '.join(there)}"
        )

    def _no_version(self, version: int) -> str:
        name = HTTP_VERSIONS[version]
        there = [f"{number} {HTTP_VERSIONS[number]}" for number in HTTP_VERSIONS if number in self._http_versions]
        return (
            f"http_version: {version} ({name}) is wrong: "
            f"this libcurl has no {name.split(' ')[0]}; it has {', '.join(there)}"
        )
