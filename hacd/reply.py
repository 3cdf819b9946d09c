"""A reply: what a transaction comes back with, under the manual's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hacd.pseudovars import Index, pick, value
from hacd.shared import Body

#: what may surround a value; Latin-1 has more that Python would strip
_BLANK = " \t\r"


class Reply:
    """The end of a query: a reply, an error or a timeout. `ok` says which; any HTTP status is `ok`.

    `ok` (1 or 0), `code` (curl's, 0 if ok), `err` (text or None), `rs` (HTTP status, 0 if
    none), `rr` (reason phrase), `head` (the last header block, bytes), `rb` (body, bytes),
    `time` (µs by name), `url` (the last one), `ip`, `http_version` ("1.1", "2", "3"),
    `id`, `route`, `xdata`.
    """

    __slots__ = ("_headers", "_members", "index")

    def __init__(self, members: dict[str, Any], index: int | None = None) -> None:
        self._members = members
        self._headers: list[tuple[str, str]] | None = None
        #: of `query_many`: the place of the query in what was given
        self.index = index

    @property
    def id(self) -> str:
        """The query's id (`$http_req_id`)."""
        return str(self._members.get("id", ""))

    @property
    def route(self) -> str:
        """The route in which the transaction resumes."""
        return str(self._members.get("route", ""))

    @property
    def ok(self) -> int:
        """1 if curl did its work, whatever the HTTP status; 0 otherwise (`$http_ok`)."""
        return int(self._members.get("ok", 0))

    @property
    def code(self) -> int:
        """curl's code; 0 if ok, 28 for a timeout."""
        return int(self._members.get("code", 0))

    @property
    def err(self) -> str | None:
        """What went wrong, or None (`$http_err`)."""
        err = self._members.get("err")
        return None if err is None else str(err)

    @property
    def rs(self) -> int:
        """HTTP status, 0 if there was none (`$http_rs`)."""
        return int(self._members.get("rs", 0))

    @property
    def rr(self) -> str:
        """Reason phrase (`$http_rr`)."""
        return str(self._members.get("rr", ""))

    @property
    def head(self) -> bytes:
        """The last header block, with its status line."""
        return bytes(self._members.get("head", b""))

    @property
    def rb(self) -> bytes:
        """Body (`$http_rb`)."""
        body = self._members.get("rb", b"")
        return body.read() if isinstance(body, Body) else bytes(body)

    @property
    def view(self) -> memoryview:
        """Body, where it lies: one that came in shared memory is mapped, and not copied.

        It is good for as long as it is kept, and keeps the mapping, which holds a descriptor.
        """
        body = self._members.get("rb", b"")
        return body.view() if isinstance(body, Body) else memoryview(body)

    @property
    def bs(self) -> int:
        """Length of the body in bytes (`$http_bs`)."""
        return len(self._members.get("rb", b""))

    @property
    def mb(self) -> bytes:
        """Header block and body (`$http_mb`)."""
        return self.head + self.rb

    @property
    def ml(self) -> int:
        """Length of header block and body in bytes (`$http_ml`)."""
        return len(self.head) + self.bs

    @property
    def time(self) -> dict[str, int]:
        """µs since the start, by curl's names, and `queue` (`$http_time(name)`)."""
        return dict(self._members.get("time", {}))

    @property
    def url(self) -> str:
        """The last URL."""
        return str(self._members.get("url", ""))

    @property
    def ip(self) -> str:
        """The address that answered."""
        return str(self._members.get("ip", ""))

    @property
    def http_version(self) -> str:
        """ "1.0", "1.1", "2" or "3"; empty without a reply."""
        return str(self._members.get("http_version", ""))

    @property
    def xdata(self) -> Any:
        """What the query gave as `xdata` (`$http_xdata`)."""
        return self._members.get("xdata")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers in order, parsed when first asked for."""
        if self._headers is None:
            self._headers = parse_headers(self.head)
        return self._headers

    def hdr(self, name: str, index: int = 0) -> str | None:
        """The value of that header, or None (`$http_hdr(Name)`); with several, that number of them.

        A negative index counts from the end, as in `$(http_hdr(Name)[N])`.
        """
        values = self.hdrs(name)
        return values[index] if -len(values) <= index < len(values) else None

    def hdrs(self, name: str) -> list[str]:
        """All values of that header, in order (`$(http_hdr(Name)[*])` joins them)."""
        wanted = name.lower()
        return [value for known, value in self.headers if known.lower() == wanted]

    def pv(self, text: str) -> Any:
        """The value of a pseudo variable of this reply, as `pv("$http_rs")`: int, text, bytes, or None for null.

        Of any other text, the text with its variables expanded. Raises BadRequest for one that is wrong.
        """
        return value(text, ReplyScope(self))

    def as_map(self) -> dict[str, Any]:
        """The reply as it came over the wire, with its body as bytes."""
        members = dict(self._members)
        if isinstance(members.get("rb"), Body):
            members["rb"] = self.rb
        return members

    def __repr__(self) -> str:
        end = f"{self.rs} {self.rr}".strip() if self.ok else f"{self.code} {self.err}"
        return f"<Reply {self.id} {self.url} {end}, {self.bs} bytes>"


class ReplyScope:
    """What the manual's names stand for on a reply, or where there is none (None): then all are null.

    They are null too where the reply has none: `$http_err` when it is ok, and all that an HTTP reply
    brings (`$http_rs`, `$http_rb`, `$http_bs` and their like) when not even a status line came.
    """

    __slots__ = ("reply",)

    def __init__(self, reply: Reply | None) -> None:
        self.reply = reply

    def pv(self, name: str, key: str | None, index: Index) -> Any:
        """The value of that name, typed, or None for null."""
        reply = self.reply
        if reply is None:
            return None
        if name == "http_hdr":
            return pick(reply.hdrs(key or ""), index)
        if name == "http_time":
            return pick([reply.time.get(key or "")], index)
        read = _OF_REPLY.get(name) or (_OF_RESPONSE.get(name) if reply.rs else None)
        return None if read is None else pick([read(reply)], index)


#: what every outcome has, and what only one with an HTTP reply has
_OF_REPLY: Mapping[str, Callable[[Reply], Any]] = {
    "http_req_id": lambda reply: reply.id or None,
    "http_ok": lambda reply: reply.ok,
    "http_err": lambda reply: reply.err,
    "http_xdata": lambda reply: reply.xdata,
}
_OF_RESPONSE: Mapping[str, Callable[[Reply], Any]] = {
    "http_rs": lambda reply: reply.rs,
    "http_rr": lambda reply: reply.rr,
    "http_mb": lambda reply: reply.mb,
    "http_ml": lambda reply: reply.ml,
    "http_rb": lambda reply: reply.rb,
    "http_bs": lambda reply: reply.bs,
}


def parse_headers(head: bytes) -> list[tuple[str, str]]:
    """Names and values of a header block. Bytes beyond ASCII are read as Latin-1, as HTTP/1 had them."""
    headers: list[tuple[str, str]] = []
    for line in head.decode("latin-1").split("\n")[1:]:
        if line[:1] in (" ", "\t") and headers:
            # A folded line, of the old kind, goes on with the value before it.
            name, value = headers[-1]
            headers[-1] = (name, f"{value} {line.strip(_BLANK)}")
            continue
        name, colon, value = line.partition(":")
        if colon:
            headers.append((name.strip(_BLANK), value.strip(_BLANK)))
    return headers
