"""Whether a value is one for a setting, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Meta

from hacd import files
from hacd.errors import SettingsError
from hacd.settings.lists import GROUPS, RULES_MAX, USERS, Item
from hacd.settings.table import SECTIONS, Settings

#: characters of a list that an error repeats
SHOWN = 100

#: a switch as text of the environment or of the command line
BOOLS = {"true": True, "1": True, "false": False, "0": False}


def check(where: str, section: str, name: str, value: Any) -> Any:
    """`value`, if it is one for that setting. Raises SettingsError, which begins with `where`."""
    field = field_of(where, section, name)
    if _is_list(field):
        return _check_list(f"{where}{section}.{name}: ", field, value)
    if _is_table(field):
        return _check_rules(where, section, field, value)
    if isinstance(value, str) and not value.isprintable():  # msgspec has no ValidationError for what is no UTF-8
        why = "it has control characters, or is no UTF-8"
        raise SettingsError(f"{where}{section}.{name}: {_shown(value)} is wrong: {why}")
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError:
        raise SettingsError(
            f"{where}{section}.{name}: {_shown(value)} is wrong: {right(field)} would be right"
        ) from None


def _check_list(where: str, field: msgspec.structs.FieldInfo, value: Any) -> tuple[str, ...]:
    """The items as text: a number of a user or of a port may be given as one."""
    about = meta(field)
    assert about.extra is not None
    item: Item = about.extra["item"]
    if not isinstance(value, list | tuple) or len(value) > item.most:
        raise SettingsError(f"{where}{_shown(value)} is wrong: {right(field)} would be right")
    texts = []
    for given in value:
        text = str(given) if type(given) is int else given
        wrong = item.wrong(text) if isinstance(text, str) and text.isprintable() else "no text"
        if wrong:
            raise SettingsError(f"{where}{_shown(given)} is wrong: {wrong}; {item.right} would be right")
        texts.append(text)
    return tuple(texts)


def _check_rules(where: str, section: str, field: msgspec.structs.FieldInfo, value: Any) -> dict[str, Any]:
    """Rules by user or group: tables of the section's own lists, by name."""
    lists = {name: row for name, row in fields_of(section).items() if _is_list(row)}
    wrong = SettingsError(f"{where}{section}.{field.name}: {_shown(value)} is wrong: {right(field)} would be right")
    if not isinstance(value, dict) or len(value) > RULES_MAX:
        raise wrong
    who = USERS if field.name == "users" else GROUPS
    rules: dict[str, Any] = {}
    for name, table in value.items():
        place = f"{section}.{field.name}.{name}"
        if not isinstance(table, dict):
            raise wrong
        why = who.wrong(name) if isinstance(name, str) and name.isprintable() else "no name"
        if why:
            raise SettingsError(f"{where}{section}.{field.name}.{_shown(name)}: {why}; {who.right} would be right")
        for key in table:
            if key not in lists:
                raise _unknown(f"{where}{place}.", key, lists)
        rules[name] = {key: _check_list(f"{where}{place}.{key}: ", lists[key], table[key]) for key in table}
    return rules


def _shown(value: Any) -> str:
    """A value as an error may repeat it: what `set` brings is foreign, however long and deep."""
    try:
        text = literal(value) if isinstance(value, bool) else repr(value)
    except RecursionError:
        return f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _unknown(where: str, name: Any, known: Iterable[str]) -> SettingsError:
    """There is no setting of that name; one that could not be any is not compared with those that there are."""
    if isinstance(name, str) and name.isprintable() and len(name) <= SHOWN:
        elsewhere = [f"{owner}.{name}" for owner in owners(name)]
        meant = f"; did you mean {elsewhere[0]}?" if elsewhere else nearest(name, known)
        return SettingsError(f"{where}{name}: no such setting{meant}")
    return SettingsError(f"{where}{_shown(name)}: no such setting")


def from_text(where: str, section: str, name: str, text: str) -> Any:
    """The value that text of the environment or of the command line stands for. Raises SettingsError."""
    field = field_of(where, section, name)
    value: Any = text
    if _is_list(field):
        value = [item.strip() for item in text.split(",")] if text.strip() else []
    elif isinstance(field.default, bool):
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
    sections = owners(name)
    if len(sections) == 1:
        return sections[0], name
    raise _unknown(where, name, [known for owner in SECTIONS for known in fields_of(owner)])


def owners(name: str) -> list[str]:
    """The sections that have a setting of that name."""
    return [section for section in SECTIONS if name in fields_of(section)]


def section_of(where: str, section: str) -> None:
    """Raise SettingsError where there is no such section."""
    if section not in SECTIONS:
        near = nearest(section, SECTIONS) if len(section) <= SHOWN else ""
        raise SettingsError(f"{where}no such section {_shown(section)}{near}")


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
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    return quoted(value) if isinstance(value, str) else str(value)


def fields_of(section: str) -> dict[str, msgspec.structs.FieldInfo]:
    """The rows of a section, by name."""
    return {field.name: field for field in msgspec.structs.fields(SECTIONS[section])}


def field_of(where: str, section: str, name: str) -> msgspec.structs.FieldInfo:
    """One row. Raises SettingsError where there is none of that name."""
    section_of(where, section)
    fields = fields_of(section)
    if name not in fields:
        raise _unknown(f"{where}{section}.", name, fields)
    return fields[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of an error."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(known))}"


def _base(annotated: Any) -> Any:
    return get_args(annotated)[0]


def _is_list(field: msgspec.structs.FieldInfo) -> bool:
    return get_origin(_base(field.type)) is tuple


def _is_table(field: msgspec.structs.FieldInfo) -> bool:
    return get_origin(_base(field.type)) is dict


def default(field: msgspec.structs.FieldInfo) -> Any:
    """What a setting is where nothing says otherwise."""
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


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


def check_files(settings: Settings) -> None:
    """Raise SettingsError where a parameter names a file that is not there, or that this process may not read."""
    parameters = settings.http_async_client
    for name, directory in (("tls_client_cert", False), ("tls_client_key", False), ("tls_ca_path", True)):
        path = getattr(parameters, name)
        if path and not files.readable(path, directory):
            what = "directory" if directory else "file"
            raise SettingsError(f"http_async_client.{name}: {path!r} is wrong: no {what} there that hacd may read")
