"""The keys of `$http_req`, against real servers: logins, redirects, TLS, versions of HTTP."""

from __future__ import annotations

import datetime
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from hacd import Client, Refused
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import REPLY, Httpbin, Nginx, Server, answer, free_port, nginx_path
from tests.support.waiting import wait_for

BASIC, DIGEST, NEGOTIATE, NTLM, DIGEST_IE = 1, 2, 4, 8, 16

# -- logins


@pytest.mark.parametrize("authmethod", [None, BASIC, BASIC | DIGEST])
def test_basic(client: Client, httpbin: Httpbin, authmethod: int | None) -> None:
    url = f"{httpbin.url}/basic-auth/alice/secret"
    reply = client.query(url, username="alice", password="secret", authmethod=authmethod)
    assert (reply.rs, json.loads(reply.rb)) == (200, {"authenticated": True, "user": "alice"})
    assert client.query(url, username="alice", password="wrong", authmethod=authmethod).rs == 401
    assert client.query(url).rs == 401  # what one query sets, the next does not see


@pytest.mark.parametrize("authmethod", [None, DIGEST, DIGEST_IE, BASIC | DIGEST])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_digest(client: Client, httpbin: Httpbin, authmethod: int | None, algorithm: str) -> None:
    url = f"{httpbin.url}/digest-auth/auth/alice/secret/{algorithm}"
    reply = client.query(url, username="alice", password="secret", authmethod=authmethod)
    assert (reply.rs, reply.ok) == (200, 1)
    assert reply.head.count(b"HTTP/1.1") == 1  # the last header block, not that of the 401
    assert client.query(url).rs == 401


def test_a_password_is_only_sent_where_it_is_asked_for(client: Client, start_origin: StartOrigin) -> None:
    """With several methods, libcurl asks first; with Basic alone, it sends at once."""
    origin = start_origin(answer)
    client.query(origin.url, username="alice", password="secret")
    assert b"Authorization" not in origin.heads[0]
    client.query(origin.url, username="alice", password="secret", authmethod=BASIC)
    assert b"Authorization: Basic " in origin.heads[1]
    client.query(origin.url, authmethod=BASIC)
    assert b"Authorization" not in origin.heads[2]


def test_authmethod_of_the_daemon(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with start_daemon(authmethod=BASIC).client() as client:
        client.query(origin.url, username="alice", password="secret")
    assert b"Authorization: Basic " in origin.heads[0]


def test_method_that_this_libcurl_has_not(client: Client, nginx: Nginx) -> None:
    import pycurl

    if pycurl.version_info()[4] & pycurl.VERSION_NTLM:
        pytest.skip("this libcurl has NTLM")
    reply = client.query(nginx.url, username="a", password="b", authmethod=NTLM)
    assert (reply.ok, reply.code) == (0, 4)
    assert client.query(nginx.url).ok == 1


# -- redirects


def test_redirects_are_followed_when_asked(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/redirect/3", follow_redirect=1)
    assert (reply.rs, reply.url) == (200, f"{httpbin.url}/get")
    assert reply.head.count(b"HTTP/1.1") == 1
    assert client.query(f"{httpbin.url}/redirect/3").rs == 302
    assert client.query(f"{httpbin.url}/redirect/3", follow_redirect=0).rs == 302


def test_redirects_of_the_daemon(start_daemon: StartDaemon, httpbin: Httpbin) -> None:
    with start_daemon(curl_follow_redirect=1).client() as client:
        assert client.query(f"{httpbin.url}/redirect/1").rs == 200
        assert client.query(f"{httpbin.url}/redirect/1", follow_redirect=0).rs == 302


def test_redirects_have_an_end(client: Client, httpbin: Httpbin) -> None:
    reply = client.query(f"{httpbin.url}/redirect/11", follow_redirect=1)
    assert (reply.ok, reply.code) == (0, 47)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "dict://127.0.0.1/"]
)
def test_redirect_to_another_scheme_is_not_followed(client: Client, start_origin: StartOrigin, location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    origin = start_origin(lambda sock, _head: sock.sendall(head))
    reply = client.query(origin.url, follow_redirect=1)
    assert (reply.ok, reply.code, reply.rb) == (0, 1, b"")


def test_logins_are_not_sent_to_another_host(client: Client, start_origin: StartOrigin) -> None:
    other = start_origin(answer)
    head = f"HTTP/1.1 302 Found\r\nLocation: {other.url}/\r\nContent-Length: 0\r\n\r\n".encode()
    origin = start_origin(lambda sock, _head: sock.sendall(head))
    options: dict[str, Any] = {"username": "alice", "password": "secret", "authmethod": BASIC, "follow_redirect": 1}
    assert client.query(origin.url, hdr=["Cookie: secret=1", "X-Foo: bar"], **options).ok == 1
    assert b"Authorization: Basic" in origin.heads[0]
    assert b"Authorization" not in other.heads[0]
    assert b"secret" not in other.heads[0]
    client.query(origin.url, hdr=["Authorization: Bearer secret"], follow_redirect=1)
    assert b"secret" not in other.heads[1]


def test_method_after_a_redirect_is_what_the_status_says(client: Client, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        if head.split(b" ")[1] == b"/done":
            sock.sendall(REPLY)
        else:
            status = head.split(b" ")[1][1:]
            sock.sendall(b"HTTP/1.1 " + status + b" X\r\nLocation: /done\r\nContent-Length: 0\r\n\r\n")

    origin = start_origin(script)
    for status in (303, 307):
        assert client.query(f"{origin.url}/{status}", method="DELETE", follow_redirect=1).ok == 1
    methods = [head.split(b" ")[0] for head in origin.heads]
    assert methods == [b"DELETE", b"GET", b"DELETE", b"DELETE"]


# -- TCP


def test_tcp_keepalive_reaches_the_socket(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    """As the kernel shows it in the timers of its TCP sockets."""
    plain, origin = start_origin(answer), start_origin(answer)
    with start_daemon().client() as client:
        assert client.query(plain.url).ok == 1
        assert keepalive_timers(plain.port) == []
        assert client.query(origin.url, tcp_keepalive=1, tcp_ka_idle=77, tcp_ka_interval=88).ok == 1
        (seconds,) = wait_for("a keep-alive timer", lambda: keepalive_timers(origin.port))
        assert 60 < seconds <= 77


def keepalive_timers(port: int) -> list[float]:
    """Seconds until the next probe, for each connection to that port that has such a timer (2)."""
    timers = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, _, timer, *_ = line.split()
        active, _, when = timer.partition(":")
        if remote.endswith(f":{port:04X}") and state == "01" and active == "02":
            timers.append(int(when, 16) / 100)
    return timers


# -- TLS


class TlsNginx(Server):
    """nginx with certificates of a test authority: its name, another name, one that expired, one self-signed."""

    CONFIG = """
{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; events {{ }}
http {{
    access_log off; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate server.pem; ssl_certificate_key server.pem;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi; ssl_client_certificate ca.pem; ssl_verify_client optional;
    server {{ listen 127.0.0.1:{port} ssl http2; location / {{ return 200 "$ssl_protocol $ssl_client_s_dn"; }} }}
    server {{ listen 127.0.0.1:{other} ssl; ssl_certificate other.pem; ssl_certificate_key other.pem; }}
    server {{ listen 127.0.0.1:{expired} ssl; ssl_certificate expired.pem; ssl_certificate_key expired.pem; }}
    server {{ listen 127.0.0.1:{selfsigned} ssl; ssl_certificate self.pem; ssl_certificate_key self.pem; }}
    server {{ listen 127.0.0.1:{h2c} http2; location / {{ return 200 "$server_protocol"; }} }}
}}
"""

    def __init__(self, directory: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        certificates = {
            "server": authority.issue_cert("127.0.0.1"),
            "other": authority.issue_cert("other.example"),
            "expired": authority.issue_cert("127.0.0.1", not_after=past),
            "self": stranger.issue_cert("127.0.0.1"),
        }
        for name, certificate in certificates.items():
            certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        self.ca_path = directory / "authorities"
        self.ca_path.mkdir()
        authority.cert_pem.write_to_path(str(self.ca_path / "test.pem"))
        subprocess.run(["openssl", "rehash", str(self.ca_path)], check=True)
        client = authority.issue_cert("alice@example.com", common_name="alice")
        self.client_cert, self.client_key = directory / "client.pem", directory / "client.key"
        client.cert_chain_pems[0].write_to_path(str(self.client_cert))
        client.private_key_pem.write_to_path(str(self.client_key))
        self.ports = {name: free_port() for name in ("port", "other", "expired", "selfsigned", "h2c")}
        self.port = self.ports["port"]
        user = "user root;" if os.geteuid() == 0 else ""
        config = directory / "nginx.conf"
        config.write_text(self.CONFIG.format(user=user, **self.ports))
        self._run([nginx_path(), "-p", str(directory), "-c", str(config), "-e", "stderr"], directory)

    def https(self, name: str = "port") -> str:
        """The URL of one of its servers."""
        return f"https://127.0.0.1:{self.ports[name]}/"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNginx]:
    server = TlsNginx(tmp_path_factory.mktemp("tls"))
    yield server
    server.close()


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


# -- versions of HTTP


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
