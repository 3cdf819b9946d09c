"""What of a line is nobody's business, taken out of it. Pure functions: text in, text out.

Law: in doubt it is hidden. Every pattern here takes time in proportion to the text, whatever an
origin puts into a header: none of them tries a long match again from each place.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "[redacted]"

#: what the name of a header, or of a parameter in a URL, has in it where its value is a secret
_SECRET_NAME = re.compile(r"authorization|cookie|token|secret|passw(?:or)?d|passphrase|api[-_]?key", re.I)

#: From the slashes of a URL to the last @ before its path. libcurl takes one to three slashes, and a
#: `Location` needs no scheme. Blanks too: an origin need not encode them.
_USERINFO = re.compile(r"((?<=[A-Za-z0-9+.\-]):/+|(?:^|(?<=[\s'\"<(\[]))//)[^/?#]*@")

#: libcurl cuts its longer texts: where that fell into a user-info, its @ is gone. No host is as long.
_CUT_USERINFO = re.compile(r"((?<=[A-Za-z0-9+.\-]):/+)[^/?#@\s]{300,}")

#: Browsers take a backslash for a slash, and what origins send is often made for them.
_BACKSLASHES = re.compile(r"[:/\\]\\")

#: A user-info without scheme and slashes: libcurl takes it for the first part of a path.
_IN_PATH = re.compile(r"(?<=/)[^/?#\s:]*:[^/?#\s]*@")

#: what may be the name of a parameter, and what it follows upon
_ASSIGNED = re.compile(r"(?:^|(?<=[?&;#/\s'\"<(\[,]))([^?&;#/\s'\"<(\[,=]+)=")

#: those of them that stand in a URL
_IN_URL = frozenset("?&;#/")

#: A value may hold quotes, and those around a URL are then part of it: better one too many hidden.
_VALUE = re.compile(r"[^&# \t\r\n]*")

#: the same in a header of its own, whose value need not encode its blanks
_VALUE_IN_HEADER = re.compile(r"[^&#]*")

#: as libcurl tells of the headers of HTTP/2 and HTTP/3
_BRACKETED = re.compile(r"\[([^\s\[\]:]+)\s*:")
_INLINE = re.compile(r"(?<![\w-])(?:(?:proxy-)?authorization|(?:set-)?cookie2?)\s*:", re.I)
_LOGIN = re.compile(r"( with user ').*", re.S)

_HOST = re.compile(r"[^/?#]*")


def is_secret(name: str) -> bool:
    """Whether the value of a header, or of a parameter, of that name is a secret."""
    return _SECRET_NAME.search(name) is not None


def line(text: str, cut: bool = False) -> str:
    """Any line without user-info in URLs, secret parameters, and headers that hold secrets.

    `cut`: it is the begin of a longer one. All but a user-info is told by its begin, and that may have its @ beyond.
    """
    if cut:
        return _line(text + "@", _VALUE).removesuffix("@")
    return _line(text, _VALUE)


def header(text: str, continues: bool, cut: bool = False) -> tuple[str, bool]:
    """A line of a header block, and whether a line that continues it is a secret too.

    `continues`: what this said of the line before. A line that begins with a blank continues that one.
    `cut`: as for `line`.
    """
    if continues and text[:1] in (" ", "\t"):
        return f" {HIDDEN}", True
    name, colon, value = text.partition(":")
    if colon and is_secret(name):
        return f"{name}: {HIDDEN}", True
    end = "@" if cut else ""
    if name.rstrip().lower().endswith("location"):
        text = f"{name}:{_without_scheme(value + end)}"
    else:
        text += end
    value_is = _VALUE_IN_HEADER if colon and " " not in name.rstrip() else _VALUE
    return _line(text, value_is).removesuffix(end), False


def _line(text: str, value_is: re.Pattern[str]) -> str:
    if ":" in text or "//" in text or "\\\\" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
        text = _CUT_USERINFO.sub(rf"\1{HIDDEN}", text)
        text = _IN_PATH.sub(f"{HIDDEN}@", _without_backslashes(text))
        text = _without_headers(text)
    if "=" in text:
        text = _without_parameters(text, value_is)
    return _LOGIN.sub(rf"\1{HIDDEN}'", text)


def _without_parameters(text: str, value_is: re.Pattern[str]) -> str:
    """The text without the values of parameters, and of other assignments, that are secrets."""
    shown: list[str] = []
    done = 0
    for match in _ASSIGNED.finditer(text):
        begin = match.end()
        if begin <= done:
            continue  # within a value that was judged
        secret = is_secret(unquote(match[1]))
        if not secret and text[match.start() - 1 : match.start()] not in _IN_URL:
            continue  # of prose, whose other words follow
        value = value_is.match(text, begin)
        assert value is not None  # it may be empty
        if secret or _holds_another(value[0]):
            shown += (text[done:begin], HIDDEN, _closing(value[0]))
        else:
            shown.append(text[done : value.end()])
        done = value.end()
    return "".join(shown) + text[done:]


def _closing(value: str) -> str:
    """What ends a value and is none of it: it closes what the URL stands in."""
    return value[-1:] if value[-1:] in ("]", "'", '"') and value != HIDDEN else ""


def _holds_another(value: str) -> bool:
    """Whether a parameter's value is, or has in it, a URL with a secret of its own."""
    whole = unquote(value) if "%" in value else value
    before, assigned, _ = whole.rpartition("=")
    return (assigned != "" and is_secret(before)) or (whole is not value and ":/" in whole and "@" in whole)


def _without_scheme(location: str) -> str:
    """A `Location` whose user-info follows upon nothing."""
    host = _HOST.match(location)
    userinfo, at, _ = host[0].rpartition("@") if host else ("", "", "")
    return f" {HIDDEN}@{location[len(userinfo) + 1 :]}" if at and ":" in userinfo else location


def _without_backslashes(text: str) -> str:
    """The text without what may be a user-info behind backslashes, which a user-info may hold as well."""
    found, end = _BACKSLASHES.search(text), text.rfind("@")
    return f"{text[: found.end()]}{HIDDEN}{text[end:]}" if found and found.end() <= end else text


def _without_headers(text: str) -> str:
    """The text up to a header that holds a secret: where a value ends within a line nobody can tell."""
    for match in _BRACKETED.finditer(text):
        if is_secret(match[1]):
            return f"{text[: match.end()]} {HIDDEN}]"
    found = _INLINE.search(text)
    return text if found is None else f"{text[: found.end()]} {HIDDEN}"
