"""The parameters, as one table: name, type, default, bounds, unit and text.

Law: the classes below are the table. What is checked, `conf/hacd.toml` and the docs follow from
them. Values come from the file, then from `HACD_SECTION__NAME`, then from `--set`; the last wins.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from hacd.errors import SettingsError
from hacd.rpc import CHUNK

KIB, MIB = 1024, 1024 * 1024
DAY = 86_400_000
PATH_MAX = 4095


def _meta(text: str, unit: str = "", **bounds: Any) -> Meta:
    return Meta(description=text, extra={"unit": unit}, **bounds)


class HttpAsyncClient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manual's parameters."""

    workers: Annotated[
        int, _meta("Number of worker processes that send HTTP requests and handle responses.", ge=1, le=64)
    ] = 1
    connection_timeout: Annotated[
        int,
        _meta(
            "How long a query waits for its whole reply, where it names no `timeout` of its own.", "ms", ge=1, le=DAY
        ),
    ] = 500
    hash_size: Annotated[
        int,
        _meta(
            "Slots of the hash of suspended transactions, made at start; rounded down to a power of two. A slot is "
            "170 bytes from the start on, a transaction past them 210 bytes while it is in flight; in time there is "
            "no difference to be measured.",
            ge=1,
            le=1_048_576,
        ),
    ] = 2048
    tls_version: Annotated[
        Literal[0, 1, 4, 5, 6, 7],
        _meta("Preferred TLS version, as libcurl numbers them: 0 its default, 1 TLS 1.x, 4 to 7 TLS 1.0 to 1.3."),
    ] = 0
    tls_verify_host: Annotated[
        Literal[0, 1, 2],
        _meta("Whether the name in a server's certificate has to be the host's: 0 no, 2 yes (1 is 2)."),
    ] = 2
    tls_verify_peer: Annotated[
        Literal[0, 1], _meta("Whether a server's certificate has to be signed by an authority that is known.")
    ] = 1
    tls_client_cert: Annotated[
        str, _meta('File with the client certificate (PEM) that is shown to servers. "": none.', max_length=PATH_MAX)
    ] = ""
    tls_client_key: Annotated[
        str, _meta('File with the private key of that certificate (PEM). "": none.', max_length=PATH_MAX)
    ] = ""
    tls_ca_path: Annotated[
        str,
        _meta(
            "Directory with certificates of authorities, hashed as `openssl rehash` does, trusted beside the system's. "
            '"": none.',
            max_length=PATH_MAX,
        ),
    ] = ""
    authmethod: Annotated[
        int,
        _meta(
            "How to log in where a query has a `username`, a sum of: 1 Basic, 2 Digest, 4 Negotiate, 8 NTLM, "
            "16 Digest with IE flavour. With several, libcurl asks the server first.",
            ge=1,
            le=31,
        ),
    ] = 3
    curl_follow_redirect: Annotated[
        int, _meta("Non-zero: follow redirects (3xx), to http and https only, and 10 of them at most.", ge=0, le=1)
    ] = 0
    tcp_keepalive: Annotated[int, _meta("Non-zero: probe idle TCP connections.", ge=0, le=1)] = 0
    tcp_ka_idle: Annotated[
        int, _meta("Time that a connection is idle before the first probe; 0: libcurl's 60 s.", "s", ge=0, le=86_400)
    ] = 0
    tcp_ka_interval: Annotated[int, _meta("Time between two probes; 0: libcurl's 60 s.", "s", ge=0, le=86_400)] = 0


class Hacd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own."""

    socket: Annotated[
        str,
        _meta(
            'Path of the Unix socket that callers dial. "": /run/hacd/hacd.sock for root, '
            "else $XDG_RUNTIME_DIR/hacd/hacd.sock.",
            max_length=99,
        ),
    ] = ""
    socket_mode: Annotated[str, _meta("Permissions of that socket, in octal.", pattern="^0?[0-7]{3}$")] = "0660"
    drain_timeout: Annotated[
        int, _meta("How long a stop waits for what is in flight; the rest ends with an error.", "ms", ge=0, le=DAY)
    ] = 5000
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _meta("The least level that is logged.")] = (
        "info"
    )


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of everything that can grow. What passes one is refused with `busy` or `too_large`."""

    max_transactions: Annotated[
        int, _meta("Transactions in flight in all; one more is refused with `busy`.", "count", ge=1, le=10_000_000)
    ] = 131_072
    max_client_in_flight: Annotated[
        int, _meta("Transactions in flight for one connection; one more is `busy`.", "count", ge=1, le=10_000_000)
    ] = 131_072
    max_clients: Annotated[
        int, _meta("Connections of callers; one more gets `busy` and is closed.", "count", ge=1, le=1_000_000)
    ] = 4096
    max_client_buffer: Annotated[
        int,
        _meta(
            "Bytes that wait for a caller who does not read; past it, his connection is cut.",
            "bytes",
            ge=CHUNK,
            le=1024 * MIB,
        ),
    ] = 64 * MIB
    max_frame: Annotated[
        int,
        _meta(
            "Bytes of one message of a caller; a longer one is `too_large`, and ends the connection.",
            "bytes",
            ge=CHUNK,
            le=1024 * MIB,
        ),
    ] = 16 * MIB
    max_body: Annotated[
        int,
        _meta(
            "Bytes of a reply's body; a longer one ends with code 63.",
            "bytes",
            ge=1,
            le=1024 * MIB,
        ),
    ] = 32 * MIB


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, by section."""

    http_async_client: HttpAsyncClient = HttpAsyncClient()
    hacd: Hacd = Hacd()
    limits: Limits = Limits()


SECTIONS: dict[str, type[Struct]] = {
    "http_async_client": HttpAsyncClient,
    "hacd": Hacd,
    "limits": Limits,
}

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
            section, _, setting = name.removeprefix("HACD_").lower().partition("__")
            _put(values, name, section, setting, text)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: no value: section.name=value would be right")
        section, setting = _resolve(name.strip())
        _put(values, f"--set {name.strip()}", section, setting, text.strip())
    return Settings(
        http_async_client=HttpAsyncClient(**values["http_async_client"]),
        hacd=Hacd(**values["hacd"]),
        limits=Limits(**values["limits"]),
    )


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
            raise SettingsError(f"{path}: [{section}]: no such section{_nearest(section, SECTIONS)}")
        if not isinstance(members, dict):
            raise SettingsError(f"{path}: {section}: a table is needed: [{section}] would be right")
        for name, value in members.items():
            values[section][name] = check(f"{path}: ", section, name, value)


def _put(values: dict[str, dict[str, Any]], where: str, section: str, name: str, text: str) -> None:
    """Take a value that came as text, from the environment or from the command line."""
    if section not in SECTIONS:
        raise SettingsError(f"{where}: no such section {section!r}{_nearest(section, SECTIONS)}")
    field = _field(f"{where}: ", section, name)
    value: Any = text
    if isinstance(field.default, int):
        try:
            value = int(text)
        except ValueError:
            raise SettingsError(
                f"{where}: {section}.{name}: {text!r} is wrong: {right(field)} would be right"
            ) from None
    values[section][name] = check(f"{where}: ", section, name, value)


def _resolve(name: str) -> tuple[str, str]:
    """Section and name of `section.name`, or of the bare name where only one section has it."""
    section, dot, setting = name.partition(".")
    if dot:
        return section, setting
    owners = [owner for owner in SECTIONS if name in _fields(owner)]
    if len(owners) == 1:
        return owners[0], name
    every = [known for owner in SECTIONS for known in _fields(owner)]
    raise SettingsError(f"--set {name}: no such setting{_nearest(name, every)}")


def check(where: str, section: str, name: str, value: Any) -> Any:
    """`value`, if it is one for that setting. Raises SettingsError, which begins with `where`."""
    field = _field(where, section, name)
    try:
        converted = msgspec.convert(value, field.type)
        if isinstance(converted, str) and not converted.isprintable():
            raise SettingsError(
                f"{where}{section}.{name}: {value!r} is wrong: it has control characters, or is no UTF-8"
            )
        return converted
    except msgspec.ValidationError:
        raise SettingsError(f"{where}{section}.{name}: {value!r} is wrong: {right(field)} would be right") from None


def names(section: str) -> set[str]:
    """The names of a section's settings."""
    return set(_fields(section))


def quoted(text: str) -> str:
    """Text as a string of TOML's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _fields(section: str) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(SECTIONS[section])}


def _field(where: str, section: str, name: str) -> msgspec.structs.FieldInfo:
    fields = _fields(section)
    if name not in fields:
        raise SettingsError(f"{where}{section}.{name}: no such setting{_nearest(name, fields)}")
    return fields[name]


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(known))}"


def _base(annotated: Any) -> Any:
    return get_args(annotated)[0]


def meta(field: msgspec.structs.FieldInfo) -> Meta:
    """Text, unit and bounds of a setting."""
    found = get_args(field.type)[1]
    assert isinstance(found, Meta)
    return found


def right(field: msgspec.structs.FieldInfo) -> str:
    """What would be right for a setting, for people."""
    about = meta(field)
    unit = f" {about.extra['unit']}" if about.extra and about.extra["unit"] in ("ms", "s", "bytes") else ""
    if _base(field.type) is int:
        return f"an integer from {about.ge} to {about.le}{unit}"
    if get_args(_base(field.type)):
        choices = get_args(_base(field.type))
        return "one of " + ", ".join(f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
    if about.pattern:
        return 'three octal digits in quotes, such as "0660",'
    return f"text of at most {about.max_length} characters"


def slots(hash_size: int) -> int:
    """The power of two that `hash_size` means, as the manual has it."""
    return 1 << (hash_size.bit_length() - 1)


def default_socket() -> str:
    """Where a daemon of this user listens when nothing else is said."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0 or not runtime:
        return "/run/hacd/hacd.sock"
    return f"{runtime}/hacd/hacd.sock"


def document() -> str:
    """The text of `conf/hacd.toml`: every setting at its default, explained."""
    lines = ["# hacd's settings, each at its default. Written from the table in hacd/settings.py."]
    lines += ["# HACD_SECTION__NAME in the environment and `--set section.name=value` override this file."]
    for section, table in SECTIONS.items():
        lines += ["", f"# {table.__doc__}", f"[{section}]"]
        for field in _fields(section).values():
            lines += _documented(field)
    return "\n".join(lines) + "\n"


def _documented(field: msgspec.structs.FieldInfo) -> list[str]:
    about = meta(field)
    value = quoted(field.default) if isinstance(field.default, str) else str(field.default)
    return ["", f"# {about.description}", f"# {right(field).rstrip(',').capitalize()}.", f"{field.name} = {value}"]


if __name__ == "__main__":
    print(document(), end="")
