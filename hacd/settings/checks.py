"""Whether a value is one for a setting, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
from msgspec import Meta

from hacd.errors import SettingsError
from hacd.settings.table import SECTIONS

#: a switch as text of the environment or of the command line
BOOLS = {"true": True, "1": True, "false": False, "0": False}


def check(where: str, section: str, name: str, value: Any) -> Any:
    """`value`, if it is one for that setting. Raises SettingsError, which begins with `where`."""
    field = field_of(where, section, name)
    try:
        converted = msgspec.convert(value, field.type)
        if isinstance(converted, str) and not converted.isprintable():
            raise SettingsError(
                f"{where}{section}.{name}: {value!r} is wrong: it has control characters, or is no UTF-8"
            )
        return converted
    except msgspec.ValidationError:
        raise SettingsError(f"{where}{section}.{name}: {value!r} is wrong: {right(field)} would be right") from None


def from_text(where: str, section: str, name: str, text: str) -> Any:
    """The value that text of the environment or of the command line stands for. Raises SettingsError."""
    field = field_of(where, section, name)
    value: Any = text
    if isinstance(field.default, bool):
        value = BOOLS.get(text.lower(), text)
    elif isinstance(field.default, int):
        try:
            value = int(text)
        except ValueError:
            raise SettingsError(f"{where}{section}.{name}: {text!r} is wrong: {right(field)} would be right") from None
    return check(where, section, name, value)


def resolve(where: str, name: str) -> tuple[str, str]:
    """Section and name of `section.name`, or of the bare name where only one section has it. Raises SettingsError."""
    section, dot, setting = name.partition(".")
    if dot:
        return section, setting
    owners = [owner for owner in SECTIONS if name in fields_of(owner)]
    if len(owners) == 1:
        return owners[0], name
    every = [known for owner in SECTIONS for known in fields_of(owner)]
    raise SettingsError(f"{where}{name}: no such setting{nearest(name, every)}")


def section_of(where: str, section: str) -> None:
    """Raise SettingsError where there is no such section."""
    if section not in SECTIONS:
        raise SettingsError(f"{where}no such section {section!r}{nearest(section, SECTIONS)}")


def names(section: str) -> set[str]:
    """The names of a section's settings."""
    return set(fields_of(section))


def quoted(text: str) -> str:
    """Text as a string of TOML's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def literal(value: Any) -> str:
    """A setting's value as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else str(value)


def fields_of(section: str) -> dict[str, msgspec.structs.FieldInfo]:
    """The rows of a section, by name."""
    return {field.name: field for field in msgspec.structs.fields(SECTIONS[section])}


def field_of(where: str, section: str, name: str) -> msgspec.structs.FieldInfo:
    """One row. Raises SettingsError where there is none of that name."""
    section_of(where, section)
    fields = fields_of(section)
    if name not in fields:
        raise SettingsError(f"{where}{section}.{name}: no such setting{nearest(name, fields)}")
    return fields[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of an error."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(known))}"


def _base(annotated: Any) -> Any:
    return get_args(annotated)[0]


def meta(field: msgspec.structs.FieldInfo) -> Meta:
    """Text, unit and bounds of a setting."""
    found = get_args(field.type)[1]
    assert isinstance(found, Meta)
    return found


def is_live(field: msgspec.structs.FieldInfo) -> bool:
    """Whether a reload and `hacd set` change it."""
    extra = meta(field).extra
    return bool(extra and extra["live"])


def right(field: msgspec.structs.FieldInfo) -> str:
    """What would be right for a setting, for people."""
    about = meta(field)
    unit = f" {about.extra['unit']}" if about.extra and about.extra["unit"] in ("ms", "s", "bytes") else ""
    if about.extra and about.extra["right"]:
        return str(about.extra["right"])
    if _base(field.type) is bool:
        return "true or false"
    if _base(field.type) is int:
        return f"an integer from {about.ge} to {about.le}{unit}"
    if get_args(_base(field.type)):
        choices = get_args(_base(field.type))
        return "one of " + ", ".join(f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
    return f"text of at most {about.max_length} characters"
