"""What may stand in a setting that is a list: networks, ports, patterns of hosts, users, groups, directories.

Law: an item is judged where it is read, and used in the form that is checked here. Names of users and groups are
looked up when the settings are, not when somebody calls.
"""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

#: items of a list, and of a list of directories; characters of a host's pattern
ITEMS_MAX = 256
DIRECTORIES_MAX = 32
PATTERN_MAX = 260

#: users, and groups, that have rules of their own
RULES_MAX = 64

#: the largest number of a user or a group; the one behind it means "none" to the kernel
ID_MAX = 2**32 - 2

PORT_MAX = 65_535

_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(rf"(?:(\*)|((?:\*\.)?{_LABEL}(?:\.{_LABEL})*)\.?|\[([0-9a-f:.]+)\])(?::([0-9]{{1,5}}))?", re.I)


@dataclass(frozen=True)
class Item:
    """What an item of a list is: `right`, for people; `wrong(text)` says what is wrong with one, or None."""

    right: str
    wrong: Callable[[str], str | None]
    most: int = ITEMS_MAX


@dataclass(frozen=True)
class Pattern:
    """A pattern of hosts: a name, an address, `*.name` or `*`; with a port, or for all of them (0)."""

    name: str  # in lower case; "" for `*`
    below: bool  # `*.name`: the names under it, and not it
    port: int


def network(text: str) -> IPv4Network | IPv6Network:
    """The network; one of IPv4 addresses in IPv6's form is one of IPv4. Raises ValueError."""
    found = ip_network(text)
    if isinstance(found, IPv6Network) and found.prefixlen >= 96 and found.network_address.ipv4_mapped:
        return IPv4Network((int(found.network_address.ipv4_mapped), found.prefixlen - 96))
    return found


def ports(text: str) -> tuple[int, int]:
    """First and last port of "443" or "8000-8999". Raises ValueError."""
    match = _PORTS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= PORT_MAX:
        raise ValueError(text)
    return first, last


def pattern(text: str) -> Pattern:
    """What a pattern of hosts says. Raises ValueError."""
    match = _HOST.fullmatch(text)
    if match is None or int(match[4] or 1) not in range(1, PORT_MAX + 1):
        raise ValueError(text)
    _, name, address, port = match.groups()
    if address:
        name = f"[{IPv6Address(address).compressed}]"
    name = (name or "").lower()
    return Pattern(name.removeprefix("*."), name.startswith("*."), int(port or 0))


def uid(text: str) -> int:
    """The number of a user, given by name or by number. Raises ValueError."""
    try:
        return _number(text) if text.isdigit() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(text) from None


def gid(text: str) -> int:
    """The number of a group, given by name or by number. Raises ValueError."""
    try:
        return _number(text) if text.isdigit() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(text) from None


def _number(text: str) -> int:
    if not text.isascii() or len(text) > 10 or int(text) > ID_MAX:
        raise ValueError(text)
    return int(text)


def _fails(read: Callable[[str], object], text: str, why: str) -> str | None:
    try:
        read(text)
    except ValueError:
        return why
    return None


def _wrong_network(text: str) -> str | None:
    why = _fails(network, text, "no network")
    if why is None:
        return None
    try:
        return f"bits are set behind its prefix, is {ip_network(text, strict=False)} meant?"
    except ValueError:
        return why


def _wrong_pattern(text: str) -> str | None:
    if not text.isascii():
        return "other letters than those of DNS; their form in DNS (xn--…) is compared"
    return "too long" if len(text) > PATTERN_MAX else _fails(pattern, text, "no pattern")


def _wrong_directory(text: str) -> str | None:
    return None if text.startswith("/") and len(text) <= 4095 else "no absolute path"


NETWORKS = Item('a network such as "10.0.0.0/8" or "fe80::/10"', _wrong_network)
PORTS = Item('a port or a range such as "8000-8999"', lambda text: _fails(ports, text, "no port"))
HOSTS = Item('a pattern such as "www.example.com", "*.example.com:443" or "[::1]"', _wrong_pattern)
USERS = Item("the name or number of a user", lambda text: _fails(uid, text, "no such user"))
GROUPS = Item("the name or number of a group", lambda text: _fails(gid, text, "no such group"))
DIRECTORIES = Item("the absolute path of a directory", _wrong_directory, DIRECTORIES_MAX)
