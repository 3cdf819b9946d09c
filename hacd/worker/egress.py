"""What may be reached: rules of `[egress]`, judged. No socket, no libcurl.

Law: it is the address that a connection is made to that is judged, in each form that it has; never a URL's text.
`deny` goes before `allow`. What cannot be judged is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from hacd.remember import remember
from hacd.settings import Settings, lists

#: addresses whose judgement is remembered, for each set of rules
REMEMBERED = 4096

#: bytes of what is remembered of a URL: a host has 300 at the most, and user-info may stand before it
BEGIN_MAX = 512

_LOW32 = 0xFFFF_FFFF
_LOOPBACK4, _LOOPBACK6 = int(IPv4Address("127.0.0.1")), int(IPv6Address("::1"))


def _net(text: str) -> tuple[int, int]:
    """Mask and base of an IPv6 network."""
    network = IPv6Network(text)
    return int(network.netmask), int(network.network_address)


_MAPPED = _net("::ffff:0:0/96")  # Linux makes an IPv4 connection of it
_NAT64 = _net("64:ff9b::/96")  # RFC 6052; a gateway does

#: IPv6 networks whose addresses hold one of IPv4's: by how many bits it is shifted, and what it is mixed with
_HOLDERS = (
    (*_net("::/96"), 0, 0),  # IPv4-compatible, RFC 4291
    (*_MAPPED, 0, 0),
    (*_net("::ffff:0:0:0/96"), 0, 0),  # IPv4-translated, RFC 2765
    (*_NAT64, 0, 0),
    (*_net("2002::/16"), 80, 0),  # 6to4, RFC 3056
    (*_net("2001::/32"), 64, 0),  # Teredo's server, RFC 4380
    (*_net("2001::/32"), 0, _LOW32),  # Teredo's client
)
_NAT64_LOCAL = _net("64:ff9b:1::/48")  # RFC 8215: the prefix may be longer, and the IPv4 address lies behind it
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # RFC 5214: in the interface's half, before the IPv4 address


def held(number: int) -> list[int]:
    """The IPv4 addresses that an IPv6 address holds, or may hold."""
    if number <= _LOOPBACK6:
        return []
    found = [number >> shift & _LOW32 ^ mixed for mask, base, shift, mixed in _HOLDERS if number & mask == base]
    if number & _NAT64_LOCAL[0] == _NAT64_LOCAL[1]:
        octets = number.to_bytes(16, "big")
        octets = octets[:8] + octets[9:]  # the ninth is always 0, and counts for nothing
        found += [number & _LOW32, *(int.from_bytes(octets[begin : begin + 4], "big") for begin in (6, 7, 8))]
    if number >> 32 & _LOW32 in _ISATAP:
        found.append(number & _LOW32)
    return found


def forms(ip: str) -> list[tuple[int, int]]:
    """Version and number of each address that `ip` is; first of all that which a connection to it reaches.

    Raises AddressValueError. The address of no host leads to this one.
    """
    text = ip.partition("%")[0]
    if ":" not in text:
        number = int(IPv4Address(text))
        return [(4, number or _LOOPBACK4), (4, number)]
    number = int(IPv6Address(text))
    found = [(6, number), *((4, inner) for inner in held(number))]
    if number & _MAPPED[0] == _MAPPED[1]:
        return [(4, number & _LOW32 or _LOOPBACK4), *found]
    return [(6, number or _LOOPBACK6), *found]


class _Networks:
    """Some networks, as numbers: a comparison takes 60 ns."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._rows: dict[int, list[tuple[int, int, str]]] = {4: [], 6: []}
        for text in texts:
            network: IPv4Network | IPv6Network = lists.network(text)
            self._rows[network.version].append((int(network.netmask), int(network.network_address), text))

    def __bool__(self) -> bool:
        return any(self._rows.values())

    def find(self, version: int, number: int) -> str:
        """The first that has that address; "" if none has."""
        for mask, base, text in self._rows[version]:
            if number & mask == base:
                return text
        return ""


class Rules:
    """One set of rules. What judges returns "" for what may be, else why not, for people."""

    def __init__(self, label: str, given: dict[str, tuple[str, ...]], general: dict[str, tuple[str, ...]]) -> None:
        """`given` goes before `general`, list by list; `label` is the section that it stands in."""
        both = general | given
        self._where = {name: f"[{label if name in given else 'egress'}] {name}" for name in both}
        self._allow, self._deny = _Networks(both["allow"]), _Networks(both["deny"])
        self._ports = [lists.ports(text) for text in both["ports"]]
        self._patterns = {lists.pattern(text) for text in both["hosts"]}
        #: whether hosts have to be judged at all
        self.judges_hosts = bool(self._patterns)
        self._known: dict[tuple[str, int], str] = {}
        #: what was judged of URLs that begin so, up to the slash behind the host
        self.known_hosts: dict[bytes, str] = {}

    def remember(self, begin: bytes, why: str) -> None:
        """URLs that begin so have been judged. What is longer than a host is one without a slash behind it."""
        if len(begin) <= BEGIN_MAX:
            remember(self.known_hosts, begin, why, REMEMBERED)

    def address(self, ip: str, port: int) -> str:
        """Judge a connection. Raises nothing."""
        known = self._known.get((ip, port))
        if known is None:
            known = remember(self._known, (ip, port), self._address(ip) or self._port(port), REMEMBERED)
        return known

    def _address(self, ip: str) -> str:
        try:
            found = forms(ip)
        except AddressValueError:
            return f"egress: {ip!r} is no address"
        denied = next(filter(None, (self._deny.find(*form) for form in found)), "")
        if denied:
            return f"egress: {ip} is denied ({self._where['deny']} {denied})"
        if self._allow and not self._allowed(*found[0]):
            return f"egress: {ip} is in no network of {self._where['allow']}"
        return ""

    def _allowed(self, version: int, number: int) -> bool:
        if self._allow.find(version, number):
            return True
        via_nat64 = version == 6 and number & _NAT64[0] == _NAT64[1]
        return via_nat64 and bool(self._allow.find(4, number & _LOW32))

    def _port(self, port: int) -> str:
        if not self._ports or any(first <= port <= last for first, last in self._ports):
            return ""
        return f"egress: port {port} is none of {self._where['ports']}"

    def host(self, host: str, port: int) -> str:
        """Judge the host of a URL, as libcurl read it: without user-info, and decoded."""
        name = host.lower().removesuffix(".")
        if name.startswith("["):
            try:
                name = f"[{IPv6Address(name[1:-1]).compressed}]"
            except AddressValueError:
                return f"egress: {host!r} is no host"
        if name.isascii() and any(
            lists.Pattern(suffix, below, wanted) in self._patterns
            for suffix, below in _suffixes(name)
            for wanted in (0, port)
        ):
            return ""
        return f"egress: {host}:{port} is none of {self._where['hosts']}"


def _suffixes(name: str) -> list[tuple[str, bool]]:
    """What patterns may say of a host: `*`, its name, and each name that it is below."""
    labels = name.split(".")
    return [("", False), (name, False), *((".".join(labels[begin:]), True) for begin in range(1, len(labels)))]


class Egress:
    """All sets of rules, by the names that queries bring along: "" is the general one."""

    def __init__(self, settings: Settings) -> None:
        egress = settings.egress
        self._general = general = {name: getattr(egress, name) for name in ("allow", "deny", "hosts", "ports")}
        self.general = Rules("egress", general, general)
        #: whether queries have different rules, so that they must not share connections unseen
        self.differs = bool(egress.users or egress.groups)
        self._rules = {
            f"{kind}.{name}": Rules(f"egress.{kind}.{name}", given, general)
            for kind, by_name in (("users", egress.users), ("groups", egress.groups))
            for name, given in by_name.items()
        }

    def rules(self, options: dict[bytes, Any]) -> Rules:
        """Those of a query with these sticky options. If a reload has taken them away, nothing may be reached."""
        packed = options.get(b"egress")
        if packed is None:
            return self.general
        name = packed.decode()
        gone: dict[str, tuple[str, ...]] = {"deny": ("0.0.0.0/0", "::/0")}
        return self._rules.get(name) or Rules(f"egress.{name}, which is gone:", gone, self._general)
