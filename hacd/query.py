"""A query: its URL, its route, and the `$http_req` keys, as one table.

Law: one table for the keys. Checks, the clients' words and the docs follow from it. What a
caller says is judged here, in the front, before anything is sent; a worker trusts its jobs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hacd import files
from hacd.errors import BadRequest, shown
from hacd.expansion import QueryScope, check_vars, expand
from hacd.remember import remember
from hacd.rpc import pack, pack_apart, refuse_ext, unpack

#: ms; a day. What waits longer than that is no query.
TIMEOUT_MAX = 86_400_000

#: bytes below 0x20 and 0x7f let a caller write header lines of his own; a lone surrogate
#: stands for a byte that was no UTF-8.
_FORBIDDEN = r"\x00-\x1f\x7f\ud800-\udfff"
_URL = re.compile(r"(https?://)(?:[^/?#@]*@)?([^/?#@:][^/?#@]*)(?:[/?#].*)?", re.I)
_USERINFO = re.compile(r"^(https?://)[^/?#]*@", re.I)
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_METHOD = re.compile(_TOKEN)
_HEADER = re.compile(rf"({_TOKEN})(?::[^{_FORBIDDEN}]*|;)")

#: A body's framing is hacd's: with these a caller could leave bytes on a connection that the
#: next caller's query then travels on (request smuggling).
_FRAMING = frozenset(("content-length", "transfer-encoding"))

HDR_MAX = 256

#: characters of a URL, of its host and port, of a route's name, of a method, of half a login, of a path
URL_MAX = 65_536
HOST_MAX = 300
ROUTE_MAX = 255
METHOD_MAX = 64
SECRET_MAX = 1024
PATH_MAX = 4095

_NIL = pack(None)

# A query as `parse` gives it. A tuple and no object: this is made for each query.
# (url, origin, route, suspend, packed xdata, timeout in ms or None, hdr, body, shape, login)
Login = tuple[str, str]
Query = tuple[str, str, str, int, bytes, int | None, list[str] | None, bytes | str | None, bytes, Login | None]


@dataclass(frozen=True)
class Key:
    """One key of `$http_req`, or of hacd's own beside them.

    `check` returns the value as it travels on, or raises BadRequest. `sticky`: part of a
    query's shape, by which a worker finds a handle that is set up for it already.
    """

    name: str
    type: str
    default: str
    text: str
    check: Callable[[Any], Any]
    sticky: bool = False


def _wrong(name: str, value: Any, right: str) -> BadRequest:
    return BadRequest(f"{name}: {shown(value)} is wrong: {right}")


def check_route(value: Any) -> str:
    """`value`, if it can be a route's name. Raises BadRequest."""
    if value is None:
        return ""
    if type(value) is not str or not value.isprintable() or len(value) > ROUTE_MAX:
        raise _wrong("route", value, f"a name of at most {ROUTE_MAX} printable characters would be right")
    return value


def _suspend(value: Any) -> int:
    if value is None:
        return 1
    if value not in (0, 1) or not isinstance(value, int):
        raise _wrong("suspend", value, "0 (go on) or 1 (suspend) would be right")
    return int(value)


def _method(value: Any) -> str | None:
    if value is not None and (type(value) is not str or len(value) > METHOD_MAX or not _METHOD.fullmatch(value)):
        raise _wrong("method", value, f"a token such as GET, of at most {METHOD_MAX} characters, would be right")
    return value


def _hdr(value: Any) -> list[str] | None:
    if value is None:
        return None
    if type(value) is not list:
        raise BadRequest(f'hdr: a {type(value).__name__} is wrong: a list of "Name: value" strings would be right')
    if len(value) > HDR_MAX:
        raise BadRequest(f"hdr: {len(value)} headers are too many: at most {HDR_MAX} would be right")
    for line in value:
        match = _HEADER.fullmatch(line) if type(line) is str else None
        if match is None:
            raise BadRequest(f'hdr: {_name_of(line)} is wrong: "Name: value" without control characters would be right')
        if match[1].lower() in _FRAMING:
            raise BadRequest(f"hdr: {match[1]} is not for a caller to set: hacd computes it from the body")
    return value


def _name_of(line: Any) -> str:
    """What of a header may be repeated in an error: its name, since the value may be a secret."""
    if not isinstance(line, str):
        return f"an item of type {type(line).__name__}"
    name = _METHOD.match(line)
    return repr(name[0][:40]) if name and ":" in line else "an item without a name, or without a colon"


def _body(value: Any) -> bytes | str | None:
    if value is not None and type(value) is not bytes and type(value) is not str:
        raise BadRequest(f"body: a {type(value).__name__} is wrong: bytes or text would be right")
    return value


def _timeout(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 1 <= value <= TIMEOUT_MAX):
        raise _wrong("timeout", value, f"ms from 1 to {TIMEOUT_MAX} would be right")
    return value


def _integer(name: str, least: int, most: int, unit: str = "") -> Callable[[Any], Any]:
    def check(value: Any) -> int | None:
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise _wrong(name, value, f"an integer from {least} to {most}{unit} would be right")
        return value

    return check


def _secret(name: str) -> Callable[[Any], Any]:
    """A part of a login: text that no error repeats."""

    def check(value: Any) -> str | None:
        if value is not None and (type(value) is not str or not value.isprintable() or len(value) > SECRET_MAX):
            raise BadRequest(f"{name}: it is wrong: at most {SECRET_MAX} printable characters would be right")
        return value

    return check


def _path(name: str, directory: bool = False) -> Callable[[Any], Any]:
    """A file that libcurl is to read as the daemon's user. Judged now, since libcurl tells it late and badly."""
    what = "directory" if directory else "file"

    def check(value: Any) -> str | None:
        if value is None:
            return None
        if type(value) is not str or not value.isprintable() or not value.startswith("/") or len(value) > PATH_MAX:
            raise _wrong(name, value, f"the absolute path of a {what} would be right")
        path = files.resolve(value)
        if path is None:  # said before it is looked for: what is there is nothing to be found out
            raise _wrong(name, value, f"a {what} under one of hacd.tls_dirs would be right")
        if not files.readable(path, directory):
            raise _wrong(name, value, f"no {what} there that the daemon may read")
        return path

    return check


def _all(value: Any) -> None:
    if value is not None:
        raise _wrong("all", value, "nil (all parameters as they are set for the daemon) would be right")


def _xdata(value: Any) -> bytes:
    # Packed here, and not when the reply has come: by then it is too late to refuse it.
    try:
        packed = pack_apart(value)  # it may be as long as a frame
        refuse_ext(value)  # which decoders refuse to callers; a route may have made one
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"xdata: it cannot travel back: {error}") from None
    return packed


def _number(name: str, least: int, most: int, text: str, default: str = "", unit: str = "") -> Key:
    """The row of a number, which is sticky; `default`: the parameter that it stands in for, if not of the same name."""
    return Key(name, "int", default or name, text, _integer(name, least, most, unit), sticky=True)


def _file(name: str, text: str, directory: bool = False) -> Key:
    """The row of a file, which is sticky."""
    return Key(name, "str", name, text, _path(name, directory), sticky=True)


_ROWS = (
    Key("route", "str", '""', "the route in which the transaction is resumed", check_route),
    Key("suspend", "int", "1", "0: do not suspend; the id comes at once, the reply later", _suspend),
    Key("xdata", "any", "nil", "comes back with the reply as it is (`$http_xdata`)", _xdata),
    Key("vars", "map", "nil", "expand pseudo variables in URL, headers and body; these are the caller's", check_vars),
    Key("timeout", "int", "connection_timeout", "ms until the transaction is resumed at the latest", _timeout),
    Key("hdr", "list of str", "nil", 'headers to add, each "Name: value"', _hdr),
    Key("body", "bin or str", "nil", "the request's body", _body),
    Key("username", "str", "nil", "who to log in as", _secret("username")),
    Key("password", "str", "nil", "the password for that", _secret("password")),
    Key("all", "nil", "nil", "all keys as the parameters have them; a query starts so anyway", _all),
    Key("method", "str", "nil", "any token; without it GET, or POST where there is a body", _method, sticky=True),
    _number("authmethod", 1, 31, "1 Basic, 2 Digest, 4 Negotiate, 8 NTLM, 16 Digest with IE flavour: a sum"),
    _file("tls_client_cert", "file of the client certificate, PEM"),
    _file("tls_client_key", "file of its key, PEM"),
    _file("tls_ca_path", "directory of authorities", directory=True),
    _number("tcp_keepalive", 0, 1, "1: probe the idle connection"),
    _number("tcp_ka_idle", 0, 86_400, "s before the first probe", unit=" s"),
    _number("tcp_ka_interval", 0, 86_400, "s between two probes", unit=" s"),
    _number("follow_redirect", 0, 1, "1: follow redirects", "curl_follow_redirect"),
    _number(
        "http_version", 0, 3, "0 libcurl's choice, 1 HTTP/2 with upgrade, 2 HTTP/2 by prior knowledge, 3 HTTP/3", "0"
    ),
    _number("verbose", 0, 1, "1: log what libcurl says of the transfer, and the headers", "curl_verbose"),
)

KEYS = {key.name: key for key in _ROWS}

#: in a fixed order, so that the same options make the same shape whatever their order was
_STICKY = tuple(key.name for key in KEYS.values() if key.sticky)

_CHECKS = {key.name: key.check for key in KEYS.values()}


def parse(params: Any) -> Query:
    """The query that `[url, {options}]` asks for. Raises BadRequest, which names the option.

    The options' map is taken over and changed. It is as the wire's decoder made it.
    """
    if type(params) is not list or not 1 <= len(params) <= 2:
        raise BadRequest("params: [url] or [url, {options}] would be right")
    url, options = params[0], None
    if len(params) == 2:
        options = params[1]
        if type(options) is not dict:
            raise BadRequest("options: a map of option names to values would be right")
        if "vars" in options:
            url = _expanded(url, options)
    # Not printable: control bytes, lone surrogates (bytes that were no UTF-8), odd white space.
    if type(url) is not str or not url.isprintable() or " " in url or len(url) > URL_MAX:
        raise _bad_url(url)
    # A regular expression for each URL took a fifth of all that the front does for a query.
    end = url.find("/", 8)
    origin = (_ORIGINS.get(url[:end]) if end > 0 else None) or _origin(url)
    if options is None:
        return (url, origin, "", 1, _NIL, None, None, None, b"", None)
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise _unknown(name)
        options[name] = check(value)
    take = options.pop
    take("all", None)  # nothing to reset: a query begins with the parameters' values
    login = _login(options) if "username" in options or "password" in options else None
    query = (
        url,
        origin,
        take("route", ""),
        take("suspend", 1),
        take("xdata", _NIL),
        take("timeout", None),
        take("hdr", None),
        take("body", None),
        _shape(options) if options else b"",
        login,
    )
    if query[7] is not None and options and options.get("method") == "HEAD":
        raise BadRequest("body: HEAD has none: leave it out, or name another method")
    return query


def _expanded(url: Any, options: dict[str, Any]) -> Any:
    """The URL, and in `options` headers and body, with what `vars` and `$http_req` say; `vars` is taken out."""
    variables = check_vars(options.pop("vars"))
    return url if variables is None else expand(url, options, QueryScope(variables, options, _CHECKS))


def _shape(options: dict[str, Any]) -> bytes:
    sticky = {name: options[name] for name in _STICKY if options.get(name) is not None}
    return pack(sticky) if sticky else b""


def _login(options: dict[str, Any]) -> Login | None:
    username, password = options.pop("username", None), options.pop("password", None)
    return None if username is None and password is None else (username or "", password or "")


#: origins by the begin of the URLs that they came in, bounded
_ORIGINS: dict[str, str] = {}
ORIGINS_MAX = 4096


def _origin(url: str) -> str:
    """Scheme, host and port of a URL, without user-info: what connections are kept by. Raises BadRequest."""
    match = _URL.fullmatch(url)
    if match is None:
        raise _bad_url(url)
    if len(match[2]) > HOST_MAX:
        raise BadRequest(f"url: a host of {len(match[2])} characters is wrong: at most {HOST_MAX} would be right")
    origin = match[1] + match[2]
    if url.startswith(origin + "/"):
        remember(_ORIGINS, origin, origin, ORIGINS_MAX)
    return origin


def _bad_url(url: Any) -> BadRequest:
    if type(url) is not str:
        return BadRequest(f"url: a {type(url).__name__} is wrong: text would be right")
    if len(url) > URL_MAX:
        return BadRequest(f"url: {len(url)} characters are too many: at most {URL_MAX} would be right")
    wrong = next((place for place, letter in enumerate(url) if letter == " " or not letter.isprintable()), None)
    if wrong is not None:
        return BadRequest(f"url: the character at {wrong} is wrong: percent-encode blanks, control bytes and non-UTF-8")
    scheme = url.partition(":")[0] if ":" in url else ""
    if scheme.lower() not in ("http", "https"):
        return BadRequest(f"url: scheme {scheme[:20]!r} is wrong: http:// or https:// would be right")
    return BadRequest("url: no host in it: http://HOST[:PORT]/PATH would be right")


def _unknown(name: Any) -> BadRequest:
    return BadRequest(f"option {shown(name)} is unknown; there are: {', '.join(sorted(KEYS))}")


#: methods that may be carried out twice with the effect of once (RFC 9110, 9.2.2)
IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))


def is_idempotent(shape: bytes, has_body: bool) -> bool:
    """Whether a query of that shape may be sent twice."""
    method = unpack(shape).get("method") if shape else None
    return (method or ("POST" if has_body else "GET")) in IDEMPOTENT


def redacted(url: str) -> str:
    """The URL without user-info, for logs and for other people's eyes."""
    return _USERINFO.sub(r"\1", url)
