"""A transfer: one query on one easy handle, from its options to its outcome.

A handle is set up once for a shape of query (its method, whether it has a body, and whatever
else is sticky), and then serves one query of that shape after the other: only what differs
is set. So nothing that one query sets is seen by one that did not ask for it. A login has a handle
of its own, and that handle no other query.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pycurl

from hacd.arena import FILE
from hacd.ledger import Ledger
from hacd.outcome import (
    COULDNT_CONNECT,
    DENIED,
    GOT_NOTHING,
    HEAD_TOO_LARGE,
    TIMED_OUT,
    TOO_LARGE,
    URL_MALFORMED,
    WRITE_ERROR,
    Outcome,
    begin,
    compose,
    failure,
    hold,
)
from hacd.query import is_idempotent
from hacd.remember import remember
from hacd.worker.bodies import Body
from hacd.worker.guard import Guard
from hacd.worker.logins import log_in
from hacd.worker.memory import Memory
from hacd.worker.setup import SetUp, Shape
from hacd.worker.turns import Turns, gather

# What libcurl says where its error buffer stayed empty (its own table is out of reach from Python).
TEXTS = {
    3: "URL using bad/illegal format or missing URL",
    6: "Could not resolve hostname",
    7: "Could not connect to server",
    28: "Timeout was reached",
    52: "Server returned nothing (no headers, no data)",
    56: "Failure when receiving data from the peer",
    100: "A value or data field grew larger than allowed",
}

NS_PER_MS = 1_000_000


#: bytes of a request's body that an idle handle may go on holding
KEPT_BODY = 4096


class Transfer:
    """One easy handle and what it gathers. `id` is that of the query it carries out."""

    __slots__ = (
        *("_authmethod", "_body", "_follows", "_guard", "_hdr", "_head", "_judges_hosts", "_max_body", "_max_header"),
        *("_sent_body", "_timeout", "_tried_anew"),
        *("curl", "id", "logs_in", "queued", "set_up", "shape", "url"),
    )

    def __init__(
        self,
        shape: Shape,
        set_up: SetUp,
        open_socket: Callable[..., Any],
        public_id: Callable[[int], str],
        memory: Memory,
        ledger: Ledger,
        turns: Turns,
    ) -> None:
        """Raises pycurl.error where this libcurl cannot do what the shape asks for."""
        self.shape = shape
        self.set_up = set_up
        self.id = 0
        self.queued = 0  # ns from the front's acceptance to here
        self.url = b""
        self.curl = pycurl.Curl()
        pause = partial(turns.end, self.curl)
        self._head: list[bytes] = []
        self._body = Body(memory, set_up.max_body, set_up.lengths, self._head, pause)
        self._sent_body = 0
        self._max_body = set_up.max_body
        self._max_header = set_up.max_header
        self._timeout = 0
        self._hdr = False
        self.logs_in = False  # then it serves no other query
        self._tried_anew = False
        options = set_up.options(shape)
        rules = set_up.egress.rules(options)
        self._follows = bool(options[b"follow_redirect"])
        take = gather(self._head, set_up.max_header, pause)
        self._guard = Guard(rules, open_socket, self._head, take, lambda: (self.id, len(self._head)), self._follows)
        self._judges_hosts = rules.judges_hosts
        self._authmethod = set_up.apply(self.curl, options, shape[1], lambda: public_id(self.id))
        note = None if is_idempotent(*shape) else ledger.note
        self._guard.apply(self.curl, set_up.shared, note)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._body.add)

    def prepare(self, job: list[Any], now: int) -> None:
        """Set what this query has of its own. `job` is a message of the front's; its text is bytes.

        Raises pycurl.error for what libcurl itself refuses, and Denied for a host that the rules do.
        """
        self.id, self.url, timeout, hdr, body, _shape, accepted, login, self._body.into = job
        self.queued = now - accepted
        if self.queued >= NS_PER_MS:
            timeout = max(1, timeout - self.queued // NS_PER_MS)
        if self._judges_hosts:
            self._guard.check_url(self.url)
            if self._follows:  # where it was led to is judged at the end, too: nobody is to read it before
                self._body.into = min(self._body.into, FILE)
        set_ = self.curl.setopt
        set_(pycurl.URL, self.url)
        if timeout != self._timeout:
            set_(pycurl.TIMEOUT_MS, timeout)
            self._timeout = timeout
        if hdr:
            set_(pycurl.HTTPHEADER, hdr)
            self._hdr = True
        elif self._hdr:
            self.curl.unsetopt(pycurl.HTTPHEADER)  # an empty list is ignored: the last query's headers would stay
            self._hdr = False
        if login is not None:
            log_in(self.curl, self._authmethod, login)
        if body is not None:
            set_(pycurl.POSTFIELDS, body)
            self._sent_body = len(body)

    def release(self) -> None:
        """Forget the query; the handle stays set up for its shape."""
        self._head.clear()
        self._body.drop()
        if self._sent_body > KEPT_BODY:
            self.curl.setopt(pycurl.POSTFIELDS, b"")
        self._sent_body = 0
        self.id = 0

    def tries_anew(self, code: int) -> bool:
        """Whether to begin once more, on a new connection: the one that was kept is not for this query."""
        if self._tried_anew or not self._guard.may_try_anew(code):
            return False
        self._tried_anew = self.logs_in = True
        self.curl.setopt(pycurl.FRESH_CONNECT, 1)
        return True

    def close(self) -> None:
        """Give the handle up. No cycle is left: a login has a handle of its own, and the collector comes seldom."""
        self._body.drop()
        self.curl.close()
        self._guard.part()

    # -- the outcome

    def outcome(self, code: int, err: str | None) -> tuple[int, Outcome]:
        """Code and outcome of the transfer, which has ended with that code of curl's."""
        led = self._judges_hosts and self._follows  # to a host that its URL did not name, perhaps
        if code or led:
            why = self._guard.denial(code, self.curl.getinfo_raw(pycurl.EFFECTIVE_URL) if led else None)
            if why:
                return denied(why, text(self._last_url()), self.curl.getinfo_raw(pycurl.TOTAL_TIME_T))
        head = b"".join(self._head)
        if len(head) > self._max_header:
            head = b""
            self._body.drop()
            if code in (0, WRITE_ERROR):  # it ended by itself, or `gather` ended it
                code, err = HEAD_TOO_LARGE, self._too_large("header", self._max_header)
        elif head.find(b"\nHTTP/", 0, -1) >= 0:
            head = last_block(head, self.curl.getinfo(pycurl.RESPONSE_CODE))
        line = head[: head.find(b"\n")]
        if not code:
            first = _BEGINS.get(line) or _begin(line)
        else:
            code, err = self._error(code, err)
            first = begin(code, err, *status(line))
        get = self.curl.getinfo_raw
        times = (
            get(pycurl.TOTAL_TIME_T),
            get(pycurl.NAMELOOKUP_TIME_T),
            get(pycurl.CONNECT_TIME_T),
            get(pycurl.APPCONNECT_TIME_T),
            get(pycurl.PRETRANSFER_TIME_T),
            get(pycurl.STARTTRANSFER_TIME_T),
            get(pycurl.REDIRECT_TIME_T),
            self.queued // 1000,
        )
        url, ip = self._last_url(), get(pycurl.PRIMARY_IP) or b""
        body = self._body.finish()
        if body is not None:
            return code, hold(first, head, body, times, url, ip)
        return code, compose(first, head, self._body.heap, times, url, ip)

    @staticmethod
    def _too_large(what: str, most: int) -> str:
        return f"{what} longer than max_{what} ({most} bytes)"

    def _last_url(self) -> bytes:
        """UTF-8: the query's own, or where redirects led. libcurl reads it anew each time it is asked: 1 to 2 µs."""
        if not self.logs_in and not (self._follows and self.curl.getinfo_raw(pycurl.REDIRECT_COUNT)):
            return self.url
        try:
            last: bytes = self.curl.getinfo_raw(pycurl.EFFECTIVE_URL) or b""  # without user-info
        except pycurl.error:
            return self.url  # libcurl refused it, and then does not tell it either
        return last if last.isascii() else text(last).encode()

    def _error(self, code: int, err: str | None) -> tuple[int, str]:
        """curl's code and text, or better ones where hacd knows more."""
        if code == WRITE_ERROR and self._body.over:
            return TOO_LARGE, self._too_large("body", self._max_body)
        if self._guard.held_back(code):
            return GOT_NOTHING, TEXTS[GOT_NOTHING]
        # libcurl cuts long texts, where need be in the middle of a character.
        whole = (err or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if code == TIMED_OUT and whole and self.queued >= NS_PER_MS:
            whole += f"; {self.queued // NS_PER_MS} ms had passed before the transfer began"
        return code, whole or TEXTS.get(code, f"curl error {code}")


#: The begin of an outcome by the status line that it is known from. Origins repeat themselves,
#: but one that does not shall not make this grow.
_BEGINS: dict[bytes, bytes] = {}
BEGINS_MAX = 256
LINE_MAX = 100


def _begin(line: bytes) -> bytes:
    made = begin(0, None, *status(line))
    if len(line) <= LINE_MAX:
        remember(_BEGINS, line, made, BEGINS_MAX)
    return made


def refused(error: pycurl.error, url: bytes) -> tuple[int, bytes]:
    """Code and packed outcome of a query for which libcurl makes no transfer."""
    code, said = error.args if len(error.args) == 2 else (URL_MALFORMED, str(error))
    return code, failure(code, str(said), text(url), 0)


def denied(why: str, url: str, total: int = 0) -> tuple[int, bytes]:
    """Code and packed outcome of a query that the rules refuse, after so many µs."""
    return DENIED, failure(COULDNT_CONNECT, why, url, total)


def text(raw: bytes | None) -> str:
    """Text of libcurl's, which may hold any byte, or not be there; what goes to callers is UTF-8."""
    return raw.decode("utf-8", "replace") if raw else ""


def last_block(head: bytes, rs: int) -> bytes:
    """The last header block, with its trailers: redirects, interim replies and authentication each bring one.

    A block begins after an empty line. So does a trailer, which may look like a status line; `rs`,
    the status as curl knows it, tells them apart.
    """
    begin = len(head)
    while begin > 0:
        begin = max(head.rfind(b"\n\r\nHTTP/", 0, begin) + 3, head.rfind(b"\n\nHTTP/", 0, begin) + 2)
        begin = begin if begin > 2 else 0
        line, _, _ = head[begin:].partition(b"\n")
        if status(line)[0] == rs:
            break
    return head[begin:]


def status(line: bytes) -> tuple[int, str, str]:
    """Status, reason phrase and version of a status line; (0, "", "") if it is none."""
    version, _, rest = line.strip().partition(b" ")
    code, _, reason = rest.strip().partition(b" ")
    if not version.startswith(b"HTTP/") or not code.isdigit() or len(code) != 3:
        return 0, "", ""
    return int(code), reason.strip().decode("latin-1"), version[5:].decode("latin-1")
