"""What this libcurl can do that others cannot, and how a handle logs in.

Law: who gave no login is not logged in. libcurl by itself would show the daemon's own ticket of Kerberos
to every origin that asks for one; and a connection that was logged in serves no query with another login.
"""

from __future__ import annotations

import pycurl

BASIC, DIGEST, NEGOTIATE, NTLM, DIGEST_IE = 1, 2, 4, 8, 16

_VERSION = pycurl.version_info()[2]
_FEATURES = pycurl.version_info()[4]

#: Negotiate and NTLM log a connection in and not a request. Until 8.20.0 libcurl could use one for a
#: query with another login (CVE-2026-1965, CVE-2026-5545).
TELLS_CONNECTIONS_APART = _VERSION >= 0x081400


def _has(*names: str) -> bool:
    """Whether libcurl has one of these features; a pycurl that was built for an older one may not know its name."""
    return any(_FEATURES & getattr(pycurl, f"VERSION_{name}", 0) for name in names)


#: the methods of `authmethod` that this libcurl has, as their sum
METHODS = (
    BASIC | DIGEST | (NEGOTIATE if _has("SPNEGO", "GSSNEGOTIATE") else 0) | (NTLM if _has("NTLM") else 0) | DIGEST_IE
)

#: the numbers of `http_version` that it can be asked for
HTTP_VERSIONS = [0, *((1, 2) if _has("HTTP2") else ()), *((3,) if _has("HTTP3") else ())]


def logged_out(curl: pycurl.Curl, authmethod: int) -> None:
    """Set up for queries without a `username`; user-info of a URL is a login by other methods than Negotiate."""
    curl.setopt(pycurl.HTTPAUTH, authmethod & METHODS & ~NEGOTIATE)


def log_in(curl: pycurl.Curl, authmethod: int, login: list[bytes]) -> None:
    """Set up for a query with that login. Raises pycurl.error where this libcurl has none of the methods."""
    curl.setopt(pycurl.HTTPAUTH, authmethod)
    curl.setopt(pycurl.USERNAME, login[0])
    curl.setopt(pycurl.PASSWORD, login[1])
    if authmethod & (NEGOTIATE | NTLM) and not TELLS_CONNECTIONS_APART:
        curl.setopt(pycurl.FORBID_REUSE, 1)


def has_user_info(url: bytes) -> bool:
    """Whether such a login stands in a URL. `http://host?a@b` is taken for one: that costs a handle and no more."""
    return b"@" in url.split(b"/", 3)[2]
