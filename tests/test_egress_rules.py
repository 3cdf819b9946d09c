"""What `[egress]` allows, judged without a connection."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hacd.query import _URL
from hacd.settings import Settings, lists
from hacd.settings.table import Egress as Section
from hacd.worker.egress import BEGIN_MAX, REMEMBERED, Egress, Rules
from hacd.worker.guard import Denied, _read, host_of

GENERAL: dict[str, tuple[str, ...]] = {"allow": (), "deny": (), "hosts": (), "ports": ()}
NAT64_LOCAL = int(IPv6Address("64:ff9b:1::"))


def rules(**given: tuple[str, ...]) -> Rules:
    return Rules("egress", dict(given), GENERAL)


def default() -> Rules:
    return Egress(Settings()).general


# -- addresses


@pytest.mark.parametrize(
    "ip", ["169.254.169.254", "fe80::1", "fe80::1%eth0", "febf::1", "fd00:ec2::254", "::ffff:169.254.169.254"]
)
def test_link_local_is_denied_by_default(ip: str) -> None:
    assert default().address(ip, 80).startswith(f"egress: {ip} is denied ([egress] deny ")


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "10.0.0.1", "93.184.216.34", "2606:2800::1", "fec0::1", "0.0.0.0"])
def test_the_rest_is_not(ip: str) -> None:
    assert default().address(ip, 80) == ""


def test_the_reason_names_the_network() -> None:
    why = rules(deny=("10.0.0.0/8", "192.168.0.0/16")).address("192.168.3.4", 80)
    assert why == "egress: 192.168.3.4 is denied ([egress] deny 192.168.0.0/16)"


def test_deny_goes_before_allow() -> None:
    judged = rules(allow=("10.0.0.0/8",), deny=("10.1.0.0/16",))
    assert judged.address("10.0.0.1", 80) == ""
    assert "is denied" in judged.address("10.1.0.1", 80)
    assert judged.address("11.0.0.1", 80) == "egress: 11.0.0.1 is in no network of [egress] allow"
    assert judged.address("2606:2800::1", 80) == "egress: 2606:2800::1 is in no network of [egress] allow"


def test_edges_of_a_network() -> None:
    judged = rules(deny=("10.0.0.0/8", "fe80::/10", "192.0.2.7"))
    for ip in ("10.0.0.0", "10.255.255.255", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.7"):
        assert judged.address(ip, 80), ip
    for ip in ("9.255.255.255", "11.0.0.0", "fe7f:ffff::", "fec0::", "192.0.2.6", "192.0.2.8"):
        assert judged.address(ip, 80) == "", ip


def test_the_address_of_no_host_is_this_host() -> None:
    """Linux connects to loopback."""
    assert rules(deny=("127.0.0.0/8",)).address("0.0.0.0", 80)
    assert rules(deny=("127.0.0.0/8",)).address("::ffff:0.0.0.0", 80)
    assert rules(deny=("::1",)).address("::", 80)
    assert rules(allow=("127.0.0.1",)).address("0.0.0.0", 80) == ""
    assert rules(allow=("0.0.0.0",)).address("0.0.0.0", 80)
    assert rules(deny=("0.0.0.0/8",)).address("0.0.0.0", 80)
    assert rules(deny=("0.0.0.0/8",)).address("::1", 80) == ""


def test_mapped_networks_are_those_of_ipv4() -> None:
    judged = rules(deny=("::ffff:10.0.0.0/104",))
    assert judged.address("10.1.2.3", 80)
    assert judged.address("::ffff:10.1.2.3", 80)
    assert rules(deny=("::ffff:0:0/96",)).address("1.2.3.4", 80)


def test_allow_takes_ipv4_by_mapping_and_by_nat64() -> None:
    judged = rules(allow=("10.0.0.0/8",))
    assert judged.address("::ffff:10.1.2.3", 80) == ""
    assert judged.address("64:ff9b::10.1.2.3", 80) == ""
    assert judged.address("2002:a01:203::1", 80)  # a relay that is not 10.1.2.3


@pytest.mark.parametrize("ip", ["", "x", "1.2.3", "1.2.3.4.5", ":::", "/run/socket"])
def test_what_is_no_address_is_refused(ip: str) -> None:
    assert default().address(ip, 80) == f"egress: {ip!r} is no address"


def embeddings(four: int) -> dict[str, int]:
    """Each form of IPv6's that holds an IPv4 address, by its name."""
    octets = four.to_bytes(4, "big")

    def behind(prefix: int) -> int:
        """RFC 6052, with a prefix of 64:ff9b:1::/48 that has so many bits; the ninth octet stays 0."""
        whole = bytearray(NAT64_LOCAL.to_bytes(16, "big"))
        places = [place for place in range(prefix // 8, 16) if place != 8][:4]
        for place, octet in zip(places, octets, strict=True):
            whole[place] = octet
        return int.from_bytes(whole, "big")

    return {
        "compatible": four,
        "mapped": 0xFFFF << 32 | four,
        "translated": 0xFFFF << 48 | four,
        "nat64": int(IPv6Address("64:ff9b::")) | four,
        "nat64 /48": behind(48),
        "nat64 /56": behind(56),
        "nat64 /64": behind(64),
        "nat64 /96": NAT64_LOCAL | four,
        "6to4": 0x2002 << 112 | four << 80 | 1,
        "teredo server": 0x20010000 << 96 | four << 64,
        "teredo client": 0x20010000 << 96 | four ^ 0xFFFFFFFF,
        "isatap": 0x20010DB8 << 96 | 0x5EFE << 32 | four,
        "isatap, global": 0x20010DB8 << 96 | 0x02005EFE << 32 | four,
    }


@given(st.ip_addresses(v=4, network="169.254.0.0/16"))
def test_every_form_that_holds_a_denied_address_is_denied(address: IPv4Address) -> None:
    judged = default()
    for name, number in embeddings(int(address)).items():
        for text in (str(IPv6Address(number)), IPv6Address(number).exploded):
            assert judged.address(text, 80), (name, text)


@given(st.ip_addresses(), st.ip_addresses(v=4), st.integers(0, 32))
def test_deny_and_allow_are_each_others_opposite(
    address: IPv4Address | IPv6Address, base: IPv4Address, prefix: int
) -> None:
    """For plain addresses they say what `ipaddress` says."""
    network = IPv4Network((int(base) >> 32 - prefix << 32 - prefix, prefix))
    within = isinstance(address, IPv4Address) and (address if int(address) else ip_address("127.0.0.1")) in network
    if isinstance(address, IPv4Address) and int(address):
        assert bool(rules(deny=(str(network),)).address(str(address), 1)) == within
        assert bool(rules(allow=(str(network),)).address(str(address), 1)) != within


@given(st.text(max_size=40), st.integers(0, 65535))
def test_nothing_is_raised(text: str, port: int) -> None:
    judged = rules(deny=("10.0.0.0/8",), hosts=("*.example.com",), ports=("1-9",))
    assert isinstance(judged.address(text, port), str)
    assert isinstance(judged.host(text, port), str)


def test_what_is_remembered_is_bounded() -> None:
    judged = rules(deny=("10.0.0.0/8",))
    for number in range(REMEMBERED + 10):
        judged.address(str(IPv4Address(number + 1)), 80)
    assert len(judged._known) <= REMEMBERED


# -- ports


@pytest.mark.parametrize(("port", "fine"), [(80, True), (443, False), (7999, False), (8000, True), (8999, True)])
def test_ports(port: int, fine: bool) -> None:
    why = rules(ports=("80", "8000-8999")).address("1.2.3.4", port)
    assert why == ("" if fine else f"egress: port {port} is none of [egress] ports")


# -- hosts


@pytest.mark.parametrize(
    ("host", "port", "fine"),
    [
        ("example.com", 80, True),
        ("EXAMPLE.COM.", 80, True),
        ("www.example.com", 80, False),
        ("example.com.evil.test", 80, False),
        ("notexample.com", 80, False),
        ("a.example.org", 80, True),
        ("a.b.Example.ORG.", 8080, True),
        ("example.org", 80, False),
        ("evilexample.org", 80, False),
        ("api.test", 8443, True),
        ("api.test", 443, False),
        ("127.0.0.1", 80, True),
        ("127.0.0.2", 80, False),
        ("[::1]", 80, True),
        ("[0:0::1]", 80, True),
        ("[::2]", 80, False),
        ("ⓔxample.com", 80, False),
        ("ⓦ.example.org", 80, False),
        ("", 80, False),
        (".", 80, False),
        ("example.com..", 80, False),
    ],
)
def test_hosts(host: str, port: int, fine: bool) -> None:
    judged = rules(hosts=("example.com", "*.example.org", "api.test:8443", "127.0.0.1", "[0::1]"))
    why = judged.host(host, port)
    assert why == ("" if fine else f"egress: {host}:{port} is none of [egress] hosts")


def test_a_pattern_for_all() -> None:
    assert rules(hosts=("*:443",)).host("any.test", 443) == ""
    assert rules(hosts=("*:443",)).host("any.test", 80)
    assert not rules().judges_hosts


@pytest.mark.parametrize(
    "text", ["a*.com", "*.*", "a b", "http://a", "a:0", "a:65536", "a:", "", "[::1", "::1", "-a.b"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError):
        lists.pattern(text)


# -- rules by user


def test_rules_of_a_user_stand_for_the_general_ones_list_by_list() -> None:
    egress = Egress(Settings(egress=Section(ports=("80",), users={"0": {"deny": ("1.0.0.0/8",)}})))
    his = egress.rules({b"egress": b"users.0"})
    assert his.address("169.254.0.1", 80) == ""
    assert his.address("1.2.3.4", 80) == "egress: 1.2.3.4 is denied ([egress.users.0] deny 1.0.0.0/8)"
    assert his.address("2.3.4.5", 81) == "egress: port 81 is none of [egress] ports"
    assert egress.rules({}) is egress.general
    assert egress.general.address("169.254.0.1", 80)
    assert egress.differs
    assert not Egress(Settings()).differs


def test_rules_that_are_gone_allow_nothing() -> None:
    gone = Egress(Settings()).rules({b"egress": b"users.alice"})
    assert "egress.users.alice, which is gone" in gone.address("127.0.0.1", 80)
    assert gone.address("2606:2800::1", 80)


@given(st.sampled_from(["http://", "https://", "HTTP://"]), st.text("a.1[]:@?#/\\%2f~é", min_size=1, max_size=20))
def test_what_follows_the_host_changes_nothing(scheme: str, rest: str) -> None:
    """So what was judged once is known of every URL that begins so."""
    assume(_URL.fullmatch(scheme + rest))  # a worker's jobs have no others
    url = (scheme + rest).encode()
    try:
        host = _read(url)
    except Denied:
        return
    begin = host_of(url)
    for more in (b"", b"/", b"/@b.example/", b"/?#//b", b"/..//:80/"):
        assert _read(begin + more) == host


def test_a_url_without_a_path_is_no_begin_of_another() -> None:
    assert host_of(b"http://good.com") == b"http://good.com"
    assert host_of(b"http://good.co/m") == b"http://good.co"
    assert host_of(b"https:///good.co/m") == b"https:///good.co"  # libcurl takes three slashes, too


def test_hosts_that_are_remembered_are_bounded() -> None:
    judged = rules(hosts=("a",))
    for number in range(REMEMBERED + 10):
        judged.remember(b"http://%d" % number, "")
    assert len(judged.known_hosts) <= REMEMBERED


def test_what_is_longer_than_a_host_is_not_remembered() -> None:
    """A URL without a slash may have 64 KiB, and 4096 of those would be 256 MiB."""
    judged = rules(hosts=("x",))
    judged.remember(b"http://x?" + b"y" * BEGIN_MAX, "")
    assert not judged.known_hosts
