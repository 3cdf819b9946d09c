"""HTTP/2 over TLS, multiplexed, beside httpx."""

from __future__ import annotations

from bench import needs
from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, ratio
from bench.comparisons.https import trusting
from bench.origin import Origin

_QUERIES, _IN_FLIGHT = 12_000, 64

#: httpx is that much slower: so it runs as long as hacd does
_SHARE = 6


def _page(origin: Origin) -> list[str]:
    return [origin.http2]


HACD = Side(
    "hacd",
    "hacd query_many",
    Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, Hacd(settings=trusting), urls=_page, http="2"),
)
HTTPX = Side(
    "httpx", "httpx, http2", Asked("httpx_http2:tasks", _QUERIES // _SHARE, _IN_FLIGHT, urls=_page, secure=True)
)


def comparison(_plan: Plan) -> Comparison:
    """53-byte replies; the table says how many connections it took."""
    return Comparison(
        "http2",
        "HTTP/2 over TLS, 64 in flight, multiplexed",
        (HACD, HTTPX),
        (Measure("queries/s to httpx", ratio("rate", "hacd", "httpx"), 5.0, 10.0),),
        needs=(needs.module("httpx", "h2"), needs.openssl, needs.http2),
    )
