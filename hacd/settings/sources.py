"""Where settings come from: the file, then `HACD_SECTION__NAME`, then `--set`; the last wins."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hacd.errors import SettingsError
from hacd.settings.checks import check, from_text, names, nearest, owners, resolve
from hacd.settings.live import bounded
from hacd.settings.table import SECTIONS, Settings

LOOPS = ("pyuv", "uvloop")

#: variables of the environment that start with HACD_ and are no settings
_NOT_SETTINGS = ("HACD_SOCKET", "HACD_LOOP")


def loop_name(environ: Mapping[str, str]) -> str:
    """The loop to use: the one that HACD_LOOP names, else pyuv where it is installed. Raises SettingsError."""
    wanted = environ.get("HACD_LOOP", "")
    if wanted and wanted not in LOOPS:
        raise SettingsError(f"HACD_LOOP: {wanted!r} is wrong: pyuv or uvloop would be right")
    installed = [name for name in LOOPS if find_spec(name)]
    if not installed or (wanted and wanted not in installed):
        raise SettingsError(
            f"HACD_LOOP: {wanted or 'neither pyuv nor uvloop'} is not installed; `make install` does that"
        )
    return wanted or installed[0]


def load(
    path: str | None = None, assignments: Iterable[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings in force. `path`: a TOML file; `assignments`: `section.name=value` of `--set`.

    Raises SettingsError; its message names the place, the setting, and what would be right.
    """
    environ = os.environ if environ is None else environ
    loop_name(environ)
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    if path is not None:
        _merge_file(values, path)
    for name, text in sorted(environ.items()):
        if name.startswith("HACD_") and name not in _NOT_SETTINGS:
            section, between, setting = name.removeprefix("HACD_").lower().partition("__")
            if not between:
                raise SettingsError(f"{name}: no section in it: HACD_SECTION__NAME would be right{_meant(name)}")
            value = from_text(f"{name}: ", section, setting, text)
            values[section][setting] = value
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: no value: section.name=value would be right")
        section, setting = resolve("--set ", name.strip())
        values[section][setting] = from_text(f"--set {name.strip()}: ", section, setting, text.strip())
    sections: dict[str, Any] = {section: table(**values[section]) for section, table in SECTIONS.items()}
    return bounded(Settings(**sections))


@dataclass(frozen=True)
class Source:
    """What `hacd run` was given: kept, so that a reload reads the same again."""

    path: str | None = None
    assignments: tuple[str, ...] = ()

    def load(self) -> Settings:
        """The settings as they stand there now. Raises SettingsError."""
        return load(self.path, self.assignments)

    def placed(self, error: SettingsError) -> SettingsError:
        """What was found wrong of a value once all were read, with the place that gave it, as what `load` finds has.

        Such an error begins with `section.name: `; any other stays as it is.
        """
        section, _, name = str(error).partition(": ")[0].partition(".")
        if section in SECTIONS and name in names(section):
            return SettingsError(f"{self._place(section, name)}{error}")
        return error

    def _place(self, section: str, name: str) -> str:
        """What gave that setting its value: the last that names it, and else the file."""
        for assignment in reversed(self.assignments):
            given = assignment.partition("=")[0].strip()
            if resolve("", given) == (section, name):
                return f"--set {given}: "
        variable = _variable(section, name)
        if variable in os.environ:
            return f"{variable}: "
        return f"{self.path}: " if self.path is not None else ""


def _variable(section: str, name: str) -> str:
    """The variable of the environment for that setting."""
    return f"HACD_{section}__{name}".upper()


def _meant(variable: str) -> str:
    """The variable that one without a section may be meant for, as the end of an error."""
    known = {name: _variable(section, name) for section in SECTIONS for name in names(section)}
    bare = variable.removeprefix("HACD_").lower()
    if bare in known:
        return f"; did you mean {known[bare]}?"
    near = get_close_matches(variable, known.values(), 1, 0.8)
    return f"; did you mean {near[0]}?" if near else ""


def _merge_file(values: dict[str, dict[str, Any]], path: str) -> None:
    try:
        tables = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: byte {error.start} is not UTF-8; TOML is") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets by the thousand
        raise SettingsError(f"{path}: cannot be read: {error}") from None
    for section, members in tables.items():
        if section not in SECTIONS:
            owner = "" if isinstance(members, dict) else next(iter(owners(section)), "")
            if owner:
                right = f"below [{owner}] would be right"
                raise SettingsError(f"{path}: {section}: it stands in no section: {right}")
            raise SettingsError(f"{path}: [{section}]: no such section{nearest(section, SECTIONS)}")
        if not isinstance(members, dict):
            raise SettingsError(f"{path}: {section}: a table is needed: [{section}] would be right")
        for name, value in members.items():
            values[section][name] = check(f"{path}: ", section, name, value)


def slots(hash_size: int) -> int:
    """The power of two that `hash_size` means, as the manual has it."""
    return 1 << (hash_size.bit_length() - 1)


def default_socket() -> str:
    """Where a daemon of this user listens when nothing else is said."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0 or not runtime:
        return "/run/hacd/hacd.sock"
    return f"{runtime}/hacd/hacd.sock"
