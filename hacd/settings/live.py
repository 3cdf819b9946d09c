"""Settings that change while the daemon runs: which do, and how they travel to the other processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hacd.errors import SettingsError
from hacd.settings.checks import check as checked
from hacd.settings.checks import field_of, fields_of, is_live, resolve
from hacd.settings.table import SECTIONS, Settings
from hacd.words import DATAGRAM

#: bytes of a version
VERSION = 8

#: bytes of all settings, as they travel to the supervisor: a datagram, with its word
SIZE_MAX = DATAGRAM - 1 - VERSION


def merged(old: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """What a reload makes of `old`: the settings then in force, what changed, and what would but takes a restart."""
    changed: list[str] = []
    at_start: list[str] = []
    sections: dict[str, Any] = {}
    for section in SECTIONS:
        values: dict[str, Any] = {}
        for name, value in _differing(old, new, section):
            if is_live(fields_of(section)[name]):
                values[name] = value
                changed.append(f"{section}.{name}")
            else:
                at_start.append(f"{section}.{name}")
        sections[section] = msgspec.structs.replace(getattr(old, section), **values)
    return Settings(**sections), changed, at_start


def _differing(old: Settings, new: Settings, section: str) -> Iterator[tuple[str, Any]]:
    for name in fields_of(section):
        value = getattr(getattr(new, section), name)
        if value != getattr(getattr(old, section), name):
            yield name, value


def with_value(settings: Settings, name: str, value: Any) -> tuple[Settings, str]:
    """The settings with one changed, and its whole name. Raises SettingsError, also where that takes a restart."""
    section, setting = resolve("", name)
    value = checked("", section, setting, value)
    if not is_live(field_of("", section, setting)):
        raise SettingsError(f"{section}.{setting}: it is read at the start only: change it in the file, and restart")
    whole = msgspec.structs.replace(getattr(settings, section), **{setting: value})
    return bounded(msgspec.structs.replace(settings, **{section: whole})), f"{section}.{setting}"


def bounded(settings: Settings) -> Settings:
    """The settings, if they can travel: many long lists may be more than that. Raises SettingsError."""
    size = len(dump(settings))
    if size > SIZE_MAX:
        raise SettingsError(f"all settings together have {size} bytes: at most {SIZE_MAX} would be right")
    return settings


def with_version(version: int, settings: Settings) -> bytes:
    """All settings, and how often they were changed, for the supervisor, or from it."""
    return version.to_bytes(VERSION, "big") + dump(settings)


def versioned(data: bytes) -> tuple[int, Settings]:
    """What `with_version` made."""
    return int.from_bytes(data[:VERSION], "big"), restore(data[VERSION:])


def dump(settings: Settings) -> bytes:
    """All settings, for another process of this daemon."""
    return msgspec.json.encode(settings)


def restore(data: bytes) -> Settings:
    """What `dump` made."""
    return msgspec.json.decode(data, type=Settings)
