"""Versions of HTTP, against servers that speak them."""

from __future__ import annotations

from hacd import Client
from tests.support.tls import TlsNginx


def test_http_version_over_tls(client: Client, tls: TlsNginx) -> None:
    trust = str(tls.ca_path)
    assert client.query(tls.https(), tls_ca_path=trust, http_version=0).http_version == "2"  # libcurl's choice
    assert client.query(tls.https(), tls_ca_path=trust, http_version=1).http_version == "2"
    reply = client.query(tls.https(), tls_ca_path=trust, http_version=2)
    assert (reply.http_version, reply.rs, reply.rr) == ("2", 200, "")


def test_http_2_by_prior_knowledge(client: Client, tls: TlsNginx) -> None:
    reply = client.query(f"http://127.0.0.1:{tls.ports['h2c']}/", http_version=2)
    assert (reply.http_version, reply.rb) == ("2", b"HTTP/2.0")


def test_http_3_where_nobody_speaks_it(client: Client, tls: TlsNginx) -> None:
    reply = client.query(tls.https(), tls_ca_path=str(tls.ca_path), http_version=3, timeout=4000)
    assert (reply.ok, reply.http_version) in ((1, "2"), (0, ""))
