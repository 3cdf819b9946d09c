"""What libcurl says of a transfer, for the log (the manual's `curl_verbose`).

Law: data is never logged, and nothing is raised into libcurl. A handle that is not verbose has none of this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import pycurl

from hacd import log
from hacd.log import redaction

_KINDS = {
    pycurl.INFOTYPE_TEXT: "[cURL]",
    pycurl.INFOTYPE_HEADER_IN: "[cURL hdr in]",
    pycurl.INFOTYPE_HEADER_OUT: "[cURL hdr out]",
}


class Verbose:
    """DEBUGFUNCTION of one handle. `query()` gives the id of the query that the handle carries out, "" if none."""

    faulty = False  # of the class: a fault is told once

    def __init__(self, query: Callable[[], str]) -> None:
        self._query = query
        self._continues = False  # the last line that came in was a secret: one that continues it is, too

    def __call__(self, kind: int, data: bytes) -> None:
        """Log what libcurl says: one line for each of its lines."""
        name = _KINDS.get(kind)
        if name is None or not log.logger.isEnabledFor(logging.INFO):
            return
        try:
            self._say(name, kind, data)
        except Exception:  # noqa: BLE001
            if not Verbose.faulty:
                Verbose.faulty = True
                log.logger.exception("what libcurl says cannot be logged")

    def _say(self, name: str, kind: int, data: bytes) -> None:
        say = log.about(self._query()).info
        continues = self._continues if kind == pycurl.INFOTYPE_HEADER_IN else False
        for line in data.decode("utf-8", "backslashreplace").split("\n"):
            text = line.rstrip()
            if not text:
                continue
            if kind == pycurl.INFOTYPE_TEXT:
                text = text.lstrip()
            elif not log.shows_secrets():
                text, continues = redaction.header(text, continues)
            say("%s %s", name, text)
        if kind == pycurl.INFOTYPE_HEADER_IN:
            self._continues = continues
