"""Who keeps a transfer to its rules: callbacks of libcurl's that look before it connects, asks, and follows.

Law: OPENSOCKETFUNCTION judges each connection that is made, PREREQFUNCTION each that is used again, wherever rules
differ; and where hosts are judged, a URL is read by libcurl's own parser. A request that may not be sent twice is
not, although libcurl would. Nothing is raised into libcurl.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pycurl

from hacd.outcome import ABORTED, COULDNT_CONNECT, WRITE_ERROR
from hacd.worker.egress import Rules

# As libcurl itself reads the URL of a query, and a Location.
_FIRST = getattr(pycurl, "U_NON_SUPPORT_SCHEME", 0) | getattr(pycurl, "U_PATH_AS_IS", 0)
_NEXT = _FIRST | getattr(pycurl, "U_URLENCODE", 0) | getattr(pycurl, "U_ALLOW_SPACE", 0)

#: bytes of the longer of the schemes, with as many slashes as libcurl takes: that of the host comes behind
SCHEME = len(b"https:///")

#: Whether a status line is surely no redirect's. libcurl takes a tab for a space.
_NO_REDIRECT = re.compile(rb"HTTP/[0-9.]+ [^3][0-9][0-9]\b").match

#: where in its life a transfer is: its query, and how many header lines came so far
Place = tuple[int, int]


class Denied(Exception):
    """The rules forbid a query; the text says why."""


class Guard:
    """Of one handle. `take` adds header lines to `head`; `place()` tells where it is; `follows`: redirects, too."""

    def __init__(
        self,
        rules: Rules,
        open_socket: Callable[..., Any],
        head: list[bytes],
        take: Callable[[bytes], int | None],
        place: Callable[[], Place],
        follows: bool,
    ) -> None:
        self._rules = rules
        self._open_socket = open_socket
        self._head = head
        self._take = take
        self._place = place
        self._follows = follows
        self._url = b""
        self._opened: Place = (0, 0)
        # The last refusal: why, where, and the code that libcurl ends with if nothing comes in between.
        self._why = ""
        self._refused: Place = (0, 0)
        self._code = 0
        self._shared = False
        self._note: Callable[[int], None] | None = None
        self._noted: Place = (0, 0)
        # How far header lines have been looked at, and whether the last status there was a redirect's; and the last
        # Location that was found good. An origin may send thousands of it, and all lines before were read for each.
        self._looked: tuple[Place, bool] = ((0, 0), False)
        self._good: tuple[int, bytes] = (0, b"")
        self._again: Place = (0, 0)  # where a request was about to leave for the second time

    def apply(self, curl: pycurl.Curl, shared: bool, note: Callable[[int], None] | None) -> None:
        """Set a handle up. `shared`: there may be connections in the pool that these rules forbid.

        `note(id)` is told of each query before its request leaves; None where nobody wants to know.
        """
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        self._shared = shared
        self._note = note
        if note is not None:
            curl.setopt(pycurl.PREREQFUNCTION, self._ask_and_note)
        elif shared:
            curl.setopt(pycurl.PREREQFUNCTION, self._ask)
        judges = self._rules.judges_hosts and self._follows
        curl.setopt(pycurl.HEADERFUNCTION, self._header if judges else self._take)

    def part(self) -> None:
        """Its handle is closed, and calls nothing any more."""
        self._place = _nowhere

    # -- what libcurl calls

    def _open(self, purpose: int, address: Any) -> Any:
        why = self._rules.address(*address.addr[:2])
        if why:
            self._refuse(why, COULDNT_CONNECT)
            return pycurl.SOCKET_BAD
        self._opened = self._place()
        return self._open_socket(purpose, address)

    def _ask(self, ip: str, _local_ip: str, port: int, _local_port: int) -> int:
        why = self._rules.address(ip, port)
        if not why:
            return int(pycurl.PREREQFUNC_OK)
        self._refuse(why, ABORTED)
        return int(pycurl.PREREQFUNC_ABORT)

    def _ask_and_note(self, *addresses: Any) -> int:
        answer = self._ask(*addresses) if self._shared else int(pycurl.PREREQFUNC_OK)
        if answer == pycurl.PREREQFUNC_OK and self._note is not None:
            place = self._place()
            if place == self._noted:
                # Nothing came since it left: a kept connection broke, and libcurl sends again whatever the method is.
                self._again = place
                return int(pycurl.PREREQFUNC_ABORT)
            self._noted = place
            self._note(place[0])
        return answer

    def _header(self, line: bytes) -> int | None:
        """A header line came. A redirect to a host that is not to be named ends the transfer."""
        answer = self._take(line)
        if answer is not None or line[:9].lower() != b"location:" or not self._redirects():
            return answer
        good = self._place()[0], line
        if good == self._good:
            return None
        try:
            self._judge(_read(self._url, line[9:].strip()))
        except Denied as denied:
            self._refuse(str(denied), WRITE_ERROR)
            return -1
        self._good = good
        return None

    def _redirects(self) -> bool:
        """Whether the last status is a redirect's. Only lines are read that came since it was asked for last."""
        (id_, seen), redirects = self._looked
        place = self._place()
        if id_ != place[0]:
            seen, redirects = 0, False
        for at in range(len(self._head) - 1, seen - 1, -1):
            line = self._head[at]
            # No other line is a status line, whatever it looks like: libcurl would follow all the same.
            if line.startswith(b"HTTP/") and (not at or not self._head[at - 1].strip()):
                redirects = _NO_REDIRECT(line) is None
                break
        self._looked = place, redirects
        return redirects

    # -- what the transfer asks

    def check_url(self, url: bytes) -> None:
        """Judge the host of a query's URL. Raises Denied.

        Its host stands before the first slash behind the scheme's, so what was judged once for that much is known.
        """
        self._url = url
        begin = host_of(url)
        why = self._rules.known_hosts.get(begin)
        if why is None:
            why = self._rules.host(*_read(url))
            self._rules.remember(begin, why)
        if why:
            raise Denied(why)

    def denial(self, code: int, url: bytes | None) -> str:
        """Why the transfer was refused, if that is what `code` comes from; "" if it is not.

        `url`: the last one, where hosts are judged. Were libcurl to follow what `_header` did not see, at
        least no reply would come of it.
        """
        if code and code == self._code and self._refused == self._place():
            return "" if code == COULDNT_CONNECT and self._opened == self._refused else self._why
        if url is not None and not code:
            try:
                self._judge(_read(url))
            except Denied as denied:
                return str(denied)
        return ""

    def held_back(self, code: int) -> bool:
        """Whether the transfer ended since its request would have left twice, and may not."""
        return code == ABORTED and self._again == self._place()

    def may_try_anew(self, code: int) -> bool:
        """Whether it was a kept connection that was refused, and nothing was sent yet: a new one may lead elsewhere."""
        return code == ABORTED == self._code and self._refused == self._place() and not self._head

    def _refuse(self, why: str, code: int) -> None:
        self._why, self._code, self._refused = why, code, self._place()

    def _judge(self, host: tuple[str, int]) -> None:
        why = self._rules.host(*host)
        if why:
            raise Denied(why)


def _nowhere() -> Place:
    return 0, 0


def host_of(url: bytes) -> bytes:
    """The begin of a URL that its host is in, whatever follows."""
    end = url.find(b"/", SCHEME)
    return url if end < 0 else url[:end]


def _read(url: bytes, location: bytes | None = None) -> tuple[str, int]:
    """Host and port of a URL, or of what a Location leads to from there, as libcurl reads them. Raises Denied."""
    try:
        parsed = pycurl.CurlUrl(url, _FIRST)
        if location is not None:
            parsed.setpart(pycurl.UPART_URL, location, _NEXT)
        return parsed.host or "", int(parsed.getpart(pycurl.UPART_PORT, pycurl.U_DEFAULT_PORT))
    except AttributeError:
        raise Denied("egress: hosts cannot be judged: this pycurl has no CurlUrl") from None
    except (pycurl.error, UnicodeError, ValueError, TypeError):
        raise Denied("egress: a URL that cannot be read leads to no known host") from None
