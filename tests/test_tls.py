"""TLS: whom a query trusts, and what it shows of itself."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from hacd import Client, Refused
from tests.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.tls import TlsNginx


def test_certificate_of_an_authority_that_is_named(client: Client, tls: TlsNginx) -> None:
    reply = client.query(tls.https(), tls_ca_path=str(tls.ca_path))
    assert (reply.ok, reply.rs) == (1, 200)
    assert reply.time["appconnect"] > reply.time["connect"]
    assert reply.rb.startswith(b"TLSv1.3 ")


@pytest.mark.parametrize("name", ["port", "selfsigned"])
def test_certificate_of_an_unknown_authority(client: Client, tls: TlsNginx, name: str) -> None:
    assert client.query(tls.https(name)).code == 60
    assert client.query(tls.https("selfsigned"), tls_ca_path=str(tls.ca_path)).code == 60


@pytest.mark.parametrize("name", ["other", "expired"])
def test_certificate_that_is_wrong(client: Client, tls: TlsNginx, name: str) -> None:
    reply = client.query(tls.https(name), tls_ca_path=str(tls.ca_path))
    assert (reply.ok, reply.code) == (0, 60)


def test_trust_of_one_query_is_not_the_next_ones(client: Client, tls: TlsNginx) -> None:
    """A connection that was made with more trust is not used for a query with less."""
    for _ in range(3):
        assert client.query(tls.https(), tls_ca_path=str(tls.ca_path)).ok == 1
        assert client.query(tls.https()).code == 60


def test_parameters_of_tls(start_daemon: StartDaemon, tls: TlsNginx) -> None:
    with start_daemon(tls_ca_path=tls.ca_path).client() as client:
        assert client.query(tls.https()).ok == 1
        assert client.query(tls.https("other")).code == 60
    with start_daemon(tls_ca_path=tls.ca_path, tls_verify_host=0).client() as client:
        assert client.query(tls.https("other")).ok == 1
        assert client.query(tls.https("selfsigned")).code == 60
    with start_daemon(tls_verify_peer=0).client() as client:
        assert client.query(tls.https("selfsigned")).ok == 1
        assert client.query(tls.https("expired")).ok == 1


def test_client_certificate(client: Client, tls: TlsNginx) -> None:
    trust = str(tls.ca_path)
    cert, key = str(tls.client_cert), str(tls.client_key)
    reply = client.query(tls.https(), tls_ca_path=trust, tls_client_cert=cert, tls_client_key=key)
    assert b"CN=alice" in reply.rb
    assert b"CN=alice" not in client.query(tls.https(), tls_ca_path=trust).rb


def test_client_certificate_of_the_daemon(start_daemon: StartDaemon, tls: TlsNginx) -> None:
    settings = {"tls_client_cert": tls.client_cert, "tls_client_key": tls.client_key, "tls_ca_path": tls.ca_path}
    with start_daemon(**settings).client() as client:
        assert b"CN=alice" in client.query(tls.https()).rb


def test_client_certificate_without_its_key(client: Client, tls: TlsNginx) -> None:
    reply = client.query(tls.https(), tls_ca_path=str(tls.ca_path), tls_client_cert=str(tls.client_cert))
    assert reply.code in (43, 58)  # by the version of libcurl
    with pytest.raises(Refused, match="tls_client_key: '/no/such' is wrong"):
        client.query(tls.https(), tls_client_key="/no/such")


def test_client_certificate_that_expired(client: Client, tls: TlsNginx) -> None:
    """It is shown, and it is the server that says no."""
    cert, key = str(tls.expired_cert), str(tls.expired_key)
    reply = client.query(tls.https(), tls_ca_path=str(tls.ca_path), tls_client_cert=cert, tls_client_key=key)
    assert (reply.ok, reply.rs) == (1, 400)
    assert b"SSL certificate error" in reply.rb


def test_client_certificate_with_the_key_of_another(client: Client, tls: TlsNginx) -> None:
    cert, key = str(tls.client_cert), str(tls.expired_key)
    reply = client.query(tls.https(), tls_ca_path=str(tls.ca_path), tls_client_cert=cert, tls_client_key=key)
    assert reply.code in (43, 58)  # by the version of libcurl


def test_client_key_that_is_encrypted(start_daemon: StartDaemon, tls: TlsNginx) -> None:
    """There is nobody to ask for its passphrase: an error, and no prompt on the terminal."""
    daemon = start_daemon()
    options = {"tls_client_cert": str(tls.client_cert), "tls_client_key": str(tls.encrypted_key)}
    with daemon.client() as client:
        reply = client.query(tls.https(), tls_ca_path=str(tls.ca_path), **options)
    assert reply.code in (43, 58)  # by the version of libcurl
    assert "unable to set private key file" in (reply.err or "")
    assert "pass phrase" not in daemon.log


@pytest.mark.parametrize(("number", "protocol"), [(6, b"TLSv1."), (7, b"TLSv1.3")])
def test_tls_version(start_daemon: StartDaemon, tls: TlsNginx, number: int, protocol: bytes) -> None:
    with start_daemon(tls_ca_path=tls.ca_path, tls_version=number).client() as client:
        assert client.query(tls.https()).rb.startswith(protocol)


def test_tls_version_that_a_server_has_not(start_daemon: StartDaemon, tls: TlsNginx) -> None:
    """A server that knows TLS 1.2 at most, and a daemon that insists on 1.3."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.client_cert, tls.client_key)

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
    listener.settimeout(10)

    def serve() -> None:
        connection, _ = listener.accept()
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)
        connection.close()

    server = threading.Thread(target=serve)
    server.start()
    with start_daemon(tls_version=7).client() as client:
        assert client.query(url).code == 35
    server.join()
    listener.close()


def test_path_beyond_ascii(start_daemon: StartDaemon, tls: TlsNginx, tmp_path: Path) -> None:
    path = tmp_path / "grün"
    path.symlink_to(tls.ca_path)
    with start_daemon(tls_ca_path=path).client() as client:
        assert client.query(tls.https()).ok == 1
        assert client.query(tls.https(), tls_ca_path=str(path)).ok == 1


def test_system_authorities_are_found(daemon: Daemon) -> None:
    """Where the wheel's libcurl looks for them there is nothing on most systems."""
    assert "no file of trusted authorities" not in daemon.log
