"""Pseudo variables: `$name`, `$name(key)`, `$(name(key)[N]{transformation})`, parsed and expanded.

Law: what a name stands for is not known here: a scope says it, and None means null. A text is parsed
once and never twice: what a value brings is never parsed, so no value can name another variable.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hacd.errors import BadRequest, shown
from hacd.remember import remember

#: the names that are hacd's own (the manual's), and whether each takes a key. All others are the caller's `vars`.
NAMES: Mapping[str, bool] = {
    "null": False,
    "http_req_id": False,
    "http_query_id": False,
    "http_req": True,
    "http_ok": False,
    "http_err": False,
    "http_rs": False,
    "http_rr": False,
    "http_hdr": True,
    "http_mb": False,
    "http_ml": False,
    "http_rb": False,
    "http_bs": False,
    "http_time": True,
    "http_xdata": False,
}

#: what the manual calls by two names
_ALIASES = {"http_query_id": "http_req_id"}

#: names that begin so are hacd's own: one that is not in NAMES is a mistake and no variable of a caller's
RESERVED = "http_"

#: variables, and dollars as `$$`, that one text may have
PLACES_MAX = 1024

#: characters of a name
NAME_MAX = 64

#: transformations of one variable
TRANSFORMATIONS_MAX = 4

#: characters, or bytes, that the variables of one text may put into it where the caller of `expand` names no bound
EXPANDED_MAX = 64 * 1024 * 1024

#: parsed texts that are kept, and the length up to which they are
CACHE_MAX = 512
CACHED_MAX = 1024


class All(enum.Enum):
    """The index `[*]`: all values."""

    ALL = "*"


ALL: Final = All.ALL

#: `[N]`, negative from the end; `[*]`; None where there is none, which means the first
Index = int | All | None


class Scope(Protocol):
    """Who knows what a name stands for."""

    def pv(self, name: str, key: str | None, index: Index) -> Any:
        """The value: text, bytes, a number, or None for null."""


def pick(values: Sequence[Any], index: Index) -> Any:
    """What `index` means of the values of one name; out of range is null. Several as one are joined with ", "."""
    if index is ALL:
        return ", ".join([text_of(value) or "" for value in values]) if len(values) > 1 else pick(values, None)
    place = index or 0
    return values[place] if -len(values) <= place < len(values) else None


# -- transformations


_RESERVED_RUN = re.compile(rb"[^A-Za-z0-9._~-]+")


def escape_param(value: str | bytes) -> str:
    """Percent-encode every byte but RFC 3986's unreserved ones, so that a query string can hold the value."""
    data = value if isinstance(value, bytes) else encoded(value)
    return _RESERVED_RUN.sub(lambda run: b"%" + run[0].hex("%").upper().encode(), data).decode("ascii")


#: by the names that Kamailio has for them. What comes in is text or bytes, never null.
TRANSFORMATIONS: Mapping[str, Callable[[str | bytes], str]] = {
    "s.escape.param": escape_param,
}


# -- values as text


def text_of(value: Any) -> str | None:
    """A value as it stands in a text; None for null. Truth is 1 and 0, as in the manual; lists and maps are JSON."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    return _json(value)


def _json(value: Any) -> str | None:
    """What `xdata` can be beside a single value. What JSON has no form for is null."""
    import json

    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_bytes_in_json)
    except (TypeError, ValueError, RecursionError):
        return None


def _bytes_in_json(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise TypeError


def encoded(text: str) -> bytes:
    """UTF-8; bytes that were none come out as they came in. Raises BadRequest for half a character."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BadRequest(f"half a character (a lone surrogate) at {error.start} cannot be sent") from None


def _data_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else encoded(text_of(value) or "")


# -- templates


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a text. `source`: as it was written."""

    name: str
    key: str | None
    index: Index
    transformations: tuple[Callable[[str | bytes], str], ...]
    source: str

    def value(self, scope: Scope, most: int = EXPANDED_MAX) -> Any:
        """Its value in `scope`, typed; None for null.

        What is longer than `most` is not transformed: that takes a second for each MB, and makes nothing shorter.
        Raises BadRequest.
        """
        value = None if self.name == "null" else scope.pv(self.name, self.key, self.index)
        for transform in self.transformations:
            given = value if isinstance(value, bytes) else text_of(value)
            if given is None:
                return None
            _refuse_past(most, len(given), "bytes" if isinstance(given, bytes) else "characters")
            value = transform(given)
        return value


class Template:
    """A parsed text. `variables`: each once; `places`: how often `$` stood for something; `size`: of what is literal.

    `parts`: literal text, or the number of a variable.
    """

    __slots__ = ("_counts", "parts", "places", "size", "variables")

    def __init__(self, parts: Iterable[str | int], variables: Iterable[Variable] = (), places: int = 0) -> None:
        self.parts = tuple(parts)
        self.variables = tuple(variables)
        self.places = places
        self.size = 0
        self._counts = [0] * len(self.variables)
        for part in self.parts:
            if isinstance(part, int):
                self._counts[part] += 1
            else:
                self.size += len(part)

    def expand(self, scope: Scope, null: str = "", most: int = EXPANDED_MAX) -> str:
        """The text with each variable's value in its place, and `null` for those that have none.

        `most`: characters that the variables may put in. Raises BadRequest past it, before it takes memory.
        """
        values = self._texts(scope, null, most)
        return "".join([part if isinstance(part, str) else values[part] for part in self.parts])

    def expand_bytes(self, scope: Scope, most: int = EXPANDED_MAX) -> bytes:
        """The same for a body: values that are bytes go in as they are, text as UTF-8."""
        values: list[bytes] = []
        size = 0
        for variable, count in zip(self.variables, self._counts, strict=True):
            values.append(_data_of(variable.value(scope, most)))
            size += count * len(values[-1])
            _refuse_past(most, size, "bytes")
        return b"".join([encoded(part) if isinstance(part, str) else values[part] for part in self.parts])

    def culprit(self, scope: Scope, place: int) -> str | None:
        """The variable that put what is at `place` of the expanded text, as it was written; None: the text itself."""
        values = self._texts(scope, "")
        end = 0
        for part in self.parts:
            end += len(part if isinstance(part, str) else values[part])
            if place < end:
                return None if isinstance(part, str) else self.variables[part].source
        return None

    def _texts(self, scope: Scope, null: str, most: int = EXPANDED_MAX) -> list[str]:
        """Each variable's value. The sum is looked at after each: a thousand of them, transformed, took 50 s."""
        texts: list[str] = []
        size = 0
        for variable, count in zip(self.variables, self._counts, strict=True):
            text = text_of(variable.value(scope, most))
            texts.append(null if text is None else text)
            size += count * len(texts[-1])
            _refuse_past(most, size, "characters")
        return texts


def _refuse_past(most: int, size: int, unit: str) -> None:
    if size > most:
        raise BadRequest(f"its variables make {size} {unit}: at most {most} would be right")


# -- parsing

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
NAME = re.compile(_NAME)
_KEY = r"(?:\(([^)]*)\))?"
_PLACE = re.compile(rf"\$(?:\$|({_NAME}){_KEY}|\(({_NAME}){_KEY}(?:\[(-?[0-9]{{1,9}}|\*)\])?((?:\{{[^{{}}]*\}})*)\))")

_CACHE: dict[tuple[str, bool], Template] = {}


def parse(text: str | bytes, strict: bool = True) -> Template:
    """The template that `text` is. Raises BadRequest that says where it is wrong, and what would be right.

    Who has a text without any `$` need not come here. Not `strict`, as log lines are read: a `$` that begins no
    variable stands for itself.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    if len(text) > CACHED_MAX:
        return _parse(text, strict)
    found = _CACHE.get((text, strict))
    if found is None:
        found = remember(_CACHE, (text, strict), _parse(text, strict), CACHE_MAX)
    return found


def _parse(text: str, strict: bool) -> Template:
    parts: list[str | int] = []
    numbers: dict[str, int] = {}
    variables: list[Variable] = []
    end = places = 0
    while (at := text.find("$", end)) >= 0 and (strict or places < PLACES_MAX):
        places += 1
        parts.append(text[end:at])
        try:
            source, variable = _place(text, at, places)
        except BadRequest:
            if strict:
                raise
            source, variable = "$", "$"
        end = at + len(source)
        if isinstance(variable, Variable):
            if source not in numbers:
                numbers[source] = len(variables)
                variables.append(variable)
            parts.append(numbers[source])
        else:
            parts.append(variable)
    parts.append(text[end:])
    return Template([part for part in parts if part != ""], variables, places)


def _place(text: str, at: int, places: int) -> tuple[str, Variable | str]:
    """What the `$` at `at` begins, as it is written, and what it means. Raises BadRequest."""
    if places > PLACES_MAX:
        raise BadRequest(f"$ at {at}: more than {PLACES_MAX} variables are too many for one text")
    match = _PLACE.match(text, at)
    if match is None:
        if text.startswith("$(", at):
            right = "$(name), $(name(key)), $(name(key)[N]) or $(name{transformation}) would be right"
            raise BadRequest(f"$( at {at}: {right}; N is a number or *")
        raise BadRequest(f"$ at {at}: a name or $( would be right; $$ for a dollar")
    source = match[0]
    if source == "$$":
        return source, "$"
    short, short_key, long, long_key, index, chain = match.groups()
    name, key = short or long, short_key if short else long_key
    if len(name) > NAME_MAX:
        raise BadRequest(f"$ at {at}: a name of {len(name)} characters is too long: at most {NAME_MAX} would be right")
    unclosed = short is not None and text.startswith("(", match.end())
    _check(f"${name} at {at}", name, key, unclosed)
    number = ALL if index == "*" else None if index is None else int(index)
    transformations = _transformations(f"${name} at {at}", chain) if chain else ()
    return source, Variable(_ALIASES.get(name, name), key, number, transformations, source)


def _check(where: str, name: str, key: str | None, unclosed: bool) -> None:
    """Whether there is such a name, and a key where it takes one. Raises BadRequest."""
    takes_key = NAMES.get(name)
    if takes_key is None and name.startswith(RESERVED):
        raise BadRequest(f"{where}: there is no such variable{_nearest(name, NAMES)}")
    if takes_key:
        if not key:
            raise BadRequest(f"{where}: it takes a key: ${name}(KEY) would be right")
        if "$" in key:
            raise BadRequest(f"{where}: there is a $ in its key: a key holds no variables")
    elif key is not None or unclosed:
        raise BadRequest(f"{where}: it takes no key: $({name})( would be right for a ( behind it")


def _transformations(where: str, chain: str) -> tuple[Callable[[str | bytes], str], ...]:
    names = chain[1:-1].split("}{")
    if len(names) > TRANSFORMATIONS_MAX:
        raise BadRequest(f"{where}: more than {TRANSFORMATIONS_MAX} transformations are too many")
    for name in names:
        if name not in TRANSFORMATIONS:
            raise BadRequest(f"{where}: there is no transformation {shown(name)}{_nearest(name, TRANSFORMATIONS)}")
    return tuple(TRANSFORMATIONS[name] for name in names)


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name[:NAME_MAX], list(known), 3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(sorted(known))}"


def value(text: str, scope: Scope) -> Any:
    """The typed value of the one variable that `text` is; of any other text, the text expanded. Raises BadRequest."""
    if "$" not in text:
        return text
    template = parse(text)
    if template.parts == (0,):
        return template.variables[0].value(scope)
    return template.expand(scope)
