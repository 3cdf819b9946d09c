"""What of a line is nobody's business, taken out of it. Pure functions: text in, text out.

Law: in doubt it is hidden. Every pattern here takes time in proportion to the text, whatever an
origin puts into a header: none of them tries a long match again from each place.
"""

from __future__ import annotations

import re

HIDDEN = "[redacted]"

#: what the name of a header, or of a parameter in a URL, has in it where its value is a secret
_SECRET_NAME = re.compile(r"authorization|cookie|token|secret|passw(?:or)?d|passphrase|api[-_]?key", re.I)

#: From the slashes of a URL to the last @ before its path. libcurl takes one to three slashes, and a
#: `Location` needs no scheme. Blanks too: an origin need not encode them.
_USERINFO = re.compile(r"((?<=[A-Za-z0-9+.\-]):/+|(?:^|(?<=[\s'\"<(\[]))//)[^/?#]*@")

#: libcurl cuts its longer texts: where that fell into a user-info, its @ is gone. No host is as long.
_CUT_USERINFO = re.compile(r"((?<=[A-Za-z0-9+.\-]):/+)[^/?#@\s]{300,}")

_PARAMETER = re.compile(r"([?&;])([^?&;=#\s]*)=([^&#\s'\"]*)")

#: as libcurl tells of the headers of HTTP/2 and HTTP/3
_BRACKETED = re.compile(r"\[([^\s\[\]:]+)\s*:")
_INLINE = re.compile(r"(?<![\w-])(?:(?:proxy-)?authorization|(?:set-)?cookie2?)\s*:", re.I)
_LOGIN = re.compile(r"( with user ').*", re.S)


def is_secret(name: str) -> bool:
    """Whether the value of a header, or of a parameter, of that name is a secret."""
    return _SECRET_NAME.search(name) is not None


def line(text: str) -> str:
    """Any line without user-info in URLs, secret parameters, and headers that hold secrets."""
    if ":" in text or "//" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
        text = _CUT_USERINFO.sub(rf"\1{HIDDEN}", text)
        text = _without_headers(text)
    if "=" in text:
        text = _PARAMETER.sub(_parameter, text)
    return _LOGIN.sub(rf"\1{HIDDEN}'", text)


def header(text: str, continues: bool) -> tuple[str, bool]:
    """A line of a header block, and whether a line that continues it is a secret too.

    `continues`: what this said of the line before. A line that begins with a blank continues that one.
    """
    if continues and text[:1] in (" ", "\t"):
        return f" {HIDDEN}", True
    name, colon, _ = text.partition(":")
    if colon and is_secret(name):
        return f"{name}: {HIDDEN}", True
    return line(text), False


def _parameter(match: re.Match[str]) -> str:
    before, name, value = match.groups()
    if not is_secret(name):
        return match[0]
    bracket = "]" if value.endswith("]") and value != HIDDEN else ""  # of a header of HTTP/2, not of the value
    return f"{before}{name}={HIDDEN}{bracket}"


def _without_headers(text: str) -> str:
    """The text up to a header that holds a secret: where a value ends within a line nobody can tell."""
    for match in _BRACKETED.finditer(text):
        if is_secret(match[1]):
            return f"{text[: match.end()]} {HIDDEN}]"
    found = _INLINE.search(text)
    return text if found is None else f"{text[: found.end()]} {HIDDEN}"
