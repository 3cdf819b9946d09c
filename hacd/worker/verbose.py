"""What libcurl says of a transfer, for the log (the manual's `curl_verbose`).

Law: data is never logged, and nothing is raised into libcurl. A handle that is not verbose has none of this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pycurl

from hacd import log
from hacd.log import redaction
from hacd.log.entry import LINE_MAX, READ_MAX, cut

_KINDS = {
    pycurl.INFOTYPE_TEXT: "[cURL]",
    pycurl.INFOTYPE_HEADER_IN: "[cURL hdr in]",
    pycurl.INFOTYPE_HEADER_OUT: "[cURL hdr out]",
}

#: characters of a line whose end is not kept, so that the log does not cut it once more
SHOWN = LINE_MAX - 100


class Headers:
    """The header lines of one direction.

    libcurl tells what it sends in pieces that end where its buffers do, or where the socket took no
    more: in the middle of a name, a value, a character. A line is judged when it is whole, by its begin.
    """

    def __init__(self) -> None:
        self._begin = b""  # of the line whose end has not come
        self._more = 0  # bytes of it beyond those
        self._continues = False  # the last line was a secret: one that continues it is, too

    def lines(self, data: bytes) -> Iterator[str]:
        """The lines that end with this piece, as they may be logged."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._add(end.removesuffix(b"\r"))
            yield self._line()
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        kept = piece[: READ_MAX - len(self._begin)]
        self._begin += kept
        self._more += len(piece) - len(kept)

    def _line(self) -> str:
        text, more = self._begin.decode("utf-8", "backslashreplace").rstrip(), self._more
        self._begin, self._more = b"", 0
        if text and not log.shows_secrets():
            text, self._continues = redaction.header(text, self._continues, cut=more > 0)
            more = 0 if self._continues else more
        return cut(text, SHOWN, more) if more else text


class Verbose:
    """DEBUGFUNCTION of one handle. `query()` gives the id of the query that the handle carries out, "" if none."""

    faulty = False  # of the class: a fault is told once

    def __init__(self, query: Callable[[], str]) -> None:
        self._query = query
        self._of = ""  # the query that `_headers` are of
        self._headers: dict[int, Headers] = {}

    def __call__(self, kind: int, data: bytes) -> None:
        """Log what libcurl says: one line for each of its lines."""
        name = _KINDS.get(kind)
        if name is None or (kind == pycurl.INFOTYPE_TEXT and not log.logger.isEnabledFor(logging.INFO)):
            return  # headers are followed whatever the level is: it may change in the middle of one
        try:
            self._say(name, kind, data)
        except Exception:  # noqa: BLE001
            if not Verbose.faulty:
                Verbose.faulty = True
                log.logger.exception("what libcurl says cannot be logged")

    def _say(self, name: str, kind: int, data: bytes) -> None:
        query = self._query()
        if query != self._of:
            self._of = query
            self._headers.clear()  # what an earlier query left unfinished is none of this one's
        say = log.about(query).info
        lines = _texts(data) if kind == pycurl.INFOTYPE_TEXT else self._of_kind(kind).lines(data)
        for text in lines:
            if text:
                say("%s %s", name, text)

    def _of_kind(self, kind: int) -> Headers:
        headers = self._headers.get(kind)
        if headers is None:
            headers = self._headers[kind] = Headers()
        return headers


def _texts(data: bytes) -> Iterator[str]:
    for line in data.decode("utf-8", "backslashreplace").split("\n"):
        yield line.strip()
