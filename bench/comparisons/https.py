"""HTTPS on connections that are kept; both verify the certificate."""

from __future__ import annotations

from collections.abc import Sequence

from bench.asked import Asked, Hacd
from bench.comparison import Comparison, Measure, Plan, Side, Stage, ratio
from bench.needs import module, openssl
from bench.origin import Origin

_QUERIES, _IN_FLIGHT = 20_000, 64


def trusting(stage: Stage) -> Sequence[str]:
    """Settings of a daemon that trusts the origin's authority."""
    return [f"tls_ca_path={stage.origin.tls.path}"] if stage.origin.tls else []


def _page(origin: Origin) -> list[str]:
    return [origin.https]


HACD = Side(
    "hacd",
    "hacd query_many",
    Asked("hacd_blocking:many", _QUERIES, _IN_FLIGHT, Hacd(settings=trusting), urls=_page, http="1.1"),
)
AIOHTTP = Side("aiohttp", "aiohttp", Asked("aiohttp_session:session", _QUERIES, _IN_FLIGHT, urls=_page, secure=True))


def comparison(_plan: Plan) -> Comparison:
    """53-byte replies, 64 in flight."""
    return Comparison(
        "https",
        "HTTPS, kept connections, 64 in flight",
        (HACD, AIOHTTP),
        (Measure("queries/s to aiohttp", ratio("rate", "hacd", "aiohttp"), 2.0, 3.0),),
        needs=(module("aiohttp"), openssl),
    )
