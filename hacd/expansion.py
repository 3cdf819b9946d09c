"""A query's URL, headers and body, with the pseudo variables in them expanded.

Law: a value is only put in here, and never judged as right: what comes out is judged as if the caller
had written it. But a value that cannot be right is refused here, where its variable is known; no error repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from hacd.errors import BadRequest, shown
from hacd.pseudovars import NAME, NAME_MAX, NAMES, PLACES_MAX, RESERVED, Index, Scope, Template, parse, pick, text_of

#: `vars` of one query, and characters or bytes of one's value
VARS_MAX = 64
VALUE_MAX = 65_536

#: characters and bytes that variables may put into the URL, the headers and the body of one query, in all
EXPANDED_MAX = 262_144

_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1

# These are not what keeps control bytes out; that is the query's own check. They are here to name a variable.
_NOT_IN_A_HEADER = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NAME_OF_A_HEADER = re.compile(r"[A-Za-z0-9_-]+")


def check_vars(value: Any) -> dict[str, Any] | None:
    """`value`, if it can be a caller's `vars`. Raises BadRequest, which repeats no value."""
    if value is None:
        return None
    if type(value) is not dict:
        raise BadRequest(f"vars: a {type(value).__name__} is wrong: a map of names to values would be right")
    if len(value) > VARS_MAX:
        raise BadRequest(f"vars: {len(value)} variables are too many: at most {VARS_MAX} would be right")
    for name, item in value.items():
        _check_name(name)
        _check_value(name, item)
    return value


def _check_name(name: Any) -> None:
    if type(name) is not str or len(name) > NAME_MAX or not NAME.fullmatch(name):
        right = f"letters, digits and _, at most {NAME_MAX}, and no digit first would be right"
        raise BadRequest(f"vars: the name {shown(name)} is wrong: {right}")
    if name in NAMES or name.startswith(RESERVED):
        raise BadRequest(f"vars: {name} is a name of hacd's own: another would be right")


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, str | bytes):
        if len(value) > VALUE_MAX:
            raise BadRequest(f"vars: {name}: {len(value)} characters are too many: at most {VALUE_MAX} would be right")
    elif isinstance(value, int):
        if not _INTEGER_MIN <= value <= _INTEGER_MAX:
            raise BadRequest(f"vars: {name}: the integer is wrong: one of 64 bits would be right")
    elif value is not None and not isinstance(value, float):
        raise BadRequest(
            f"vars: {name}: a {type(value).__name__} is wrong: text, bytes, a number or nil would be right"
        )


class QueryScope:
    """What names stand for in a query that a client sends: his `vars`, and `$http_req(key)`.

    There is no reply yet, so that all other names of hacd's own are null. `options`: as they were sent;
    `keys`: those that there are.
    """

    def __init__(self, variables: dict[str, Any], options: dict[str, Any], keys: Collection[str]) -> None:
        self._variables = variables
        self._options = dict(options)
        self._keys = keys
        self._known: dict[tuple[str, Index], Any] = {}  # made of lists and maps, which takes long
        self._left = EXPANDED_MAX  # characters that those may have in all; they may come to nothing, and be null

    def pv(self, name: str, key: str | None, index: Index) -> Any:
        """The value, or None. Raises BadRequest for an `$http_req` key that there is not."""
        if name != "http_req":
            return pick([self._variables.get(name)], index)
        if key is None or key not in self._keys:
            raise BadRequest(f"$http_req: {shown(key)} is no key of it; there are: {', '.join(sorted(self._keys))}")
        if key == "password":
            return None  # who logs URLs and headers is not to find it there
        place = index or 0  # no index means the first
        if (key, place) not in self._known:
            value = self._options.get(key)
            picked = pick(value if isinstance(value, list) else [value], index)
            self._known[key, place] = self._json(key, picked) if isinstance(picked, list | dict) else picked
        return self._known[key, place]

    def _json(self, key: str, value: Any) -> str | None:
        self._left -= _size(value, self._left)
        if self._left < 0:
            raise BadRequest(f"$http_req({key}): it is too long: at most {EXPANDED_MAX} characters would be right")
        return text_of(value)


def _size(value: Any, most: int) -> int:
    """Characters that it has as JSON at the least, counted no further than `most`: a million items take 0.4 s."""
    size, todo = 0, [value]
    while todo and size <= most:
        item = todo.pop()
        size += len(item) if isinstance(item, str | bytes | list | dict) else 1
        if isinstance(item, list):
            todo += item
        elif isinstance(item, dict):
            todo += (*item, *item.values())
    return size


class Expander:
    """Expands the texts of one query in one scope; EXPANDED_MAX and PLACES_MAX bound them all together.

    Every method raises BadRequest, which names the text and the variable.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._left = EXPANDED_MAX
        self._places = 0

    def url(self, text: str) -> str:
        """A URL."""
        template = self._parse("url", text)
        expanded = self._expand("url", template)
        if not expanded.isprintable() or " " in expanded:
            wrong = (place for place, letter in enumerate(expanded) if letter == " " or not letter.isprintable())
            self._blame("url", template, expanded, wrong)
        # The checks to come repeat a scheme that they find wrong; one that a value made is not to be repeated.
        if "$" in text.partition(":")[0] and not expanded.lower().startswith(("http://", "https://")):
            raise BadRequest("url: its variables make no http:// or https:// of its begin")
        return expanded

    def line(self, text: str) -> str:
        """A header, "Name: value"."""
        name, colon, _ = text.partition(":")
        where = f"hdr: {name[:40]!r}" if colon else "hdr"
        template = self._parse(where, text)
        expanded = self._expand(where, template)
        self._blame(where, template, expanded, (match.start() for match in _NOT_IN_A_HEADER.finditer(expanded)))
        if "$" in name and not _NAME_OF_A_HEADER.fullmatch(expanded.partition(":")[0]):
            # For the same reason as above, and so stricter than the check to come.
            right = '"Name: value" with letters, digits, _ and - in the name would be right'
            raise BadRequest(f"{where}: its variables make no header: {right}")
        return expanded

    def body(self, text: str | bytes) -> bytes:
        """A body. It comes last, since what it takes is not counted."""
        template = self._parse("body", text)
        try:
            return template.expand_bytes(self._scope, self._left)
        except BadRequest as error:
            raise BadRequest(f"body: {error.message}") from None

    def _parse(self, where: str, text: str | bytes) -> Template:
        try:
            template = parse(text)
        except BadRequest as error:
            raise BadRequest(f"{where}: {error.message}") from None
        self._places += template.places
        if self._places > PLACES_MAX:
            raise BadRequest(f"{where}: more than {PLACES_MAX} variables are too many for one query")
        return template

    def _expand(self, where: str, template: Template) -> str:
        try:
            expanded = template.expand(self._scope, most=self._left)
        except BadRequest as error:
            raise BadRequest(f"{where}: {error.message}") from None
        self._left -= len(expanded) - template.size
        return expanded

    def _blame(self, where: str, template: Template, expanded: str, wrong: Iterator[int]) -> None:
        """Refuse the first wrong place if a variable brought it; what the text itself has wrong, others say."""
        place = next(wrong, None)
        source = None if place is None else template.culprit(self._scope, place)
        if place is not None and source is not None:
            right = "$(name{s.escape.param}) would encode it" if where == "url" else "a header can hold none"
            raise BadRequest(f"{where}: {source[:80]} puts {_what(expanded[place])} at {place}: {right}")


def _what(letter: str) -> str:
    if letter == " ":
        return "a blank"
    if letter < " " or letter == "\x7f":
        return "a control byte"
    return "a byte that is no UTF-8" if "\ud800" <= letter <= "\udfff" else "a character that does not print"


def expand(url: Any, options: dict[str, Any], scope: Scope) -> Any:
    """The URL expanded, and `hdr` and `body` of `options` in their places. Raises BadRequest.

    What is not of the right type is left as it is, for the checks to come.
    """
    expander = Expander(scope)
    if type(url) is str and "$" in url:
        url = expander.url(url)
    lines = options.get("hdr")
    if type(lines) is list:
        options["hdr"] = [expander.line(line) if type(line) is str and "$" in line else line for line in lines]
    body = options.get("body")
    if (type(body) is str and "$" in body) or (type(body) is bytes and b"$" in body):
        options["body"] = expander.body(body)
    return url
