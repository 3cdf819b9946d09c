"""What the checks cost: who may call, what may be reached, and every limit, beside a daemon that has none of those set.

The checks that cannot be turned off (of every option, frame and header) are in both.
"""

from __future__ import annotations

import os
import pwd

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, ratio

_QUERIES, _IN_FLIGHT = 25_000, 64

#: all checks cost no more than a fifth of the speed without them
_SHARE = 0.8

_WITHOUT = "[egress]\nallow = []\ndeny = []\nhosts = []\nports = []\n"

_WITH = """\
[hacd]
allow_users = ["{user}"]
allow_groups = [{group}]
tls_dirs = ["/etc/ssl"]

[limits]
max_host_connections = 1000
max_client_in_flight = 1000
max_transactions = 10000
max_body = 1000000
max_header = 16384

[egress]
allow = ["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16"]
deny = ["169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "10.1.0.0/16"]
hosts = ["*.example.com", "www.example.org:443", "127.0.0.1"]
ports = [443, "1024-65535"]
"""

#: the caller has rules of his own, so that they are looked up for each query, and judged for each transfer
_OWN_RULES = """
[egress.users.{user}]
allow = ["127.0.0.0/8", "10.2.0.0/16"]
"""


def _hacd(text: str) -> Hacd:
    return Hacd(config=text.format(user=pwd.getpwuid(os.geteuid()).pw_name, group=os.getegid()))


def _side(name: str, label: str, text: str) -> Side:
    return Side(name, label, Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, _hacd(text)))


def comparison(_plan: Plan) -> Comparison:
    """Speed and cost with all of them, to those without."""
    return Comparison(
        "safety",
        "all safety checks together",
        (
            _side("with", "all checks", _WITH + _OWN_RULES),
            _side("common", "all but rules of the user's own", _WITH),
            _side("without", "none that can be unset", _WITHOUT),
        ),
        (
            Measure("queries/s to those without", ratio("rate", "with", "without"), _SHARE),
            Measure("queries/s without rules of the user's own", ratio("rate", "common", "without"), _SHARE),
            Measure("front's CPU to that without", ratio("cpu.front", "with", "without"), falls=True),
            Measure("worker's CPU to that without", ratio("cpu.worker", "with", "without"), falls=True),
        ),
    )
