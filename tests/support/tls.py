"""Certificates of a test authority, and nginx that shows them: right ones and wrong ones."""

from __future__ import annotations

import datetime
import os
import subprocess
from pathlib import Path

import trustme

from tests.support.origins import Server, free_port, nginx_path


def rehash(authority: trustme.CA, directory: Path) -> Path:
    """A new directory with that authority, as `tls_ca_path` wants it."""
    directory.mkdir()
    authority.cert_pem.write_to_path(str(directory / "test.pem"))
    subprocess.run(["openssl", "rehash", str(directory)], check=True)
    return directory


class TlsNginx(Server):
    """nginx with certificates of a test authority: its name, another name, one that expired, one self-signed."""

    CONFIG = """
{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; events {{ }}
http {{
    access_log off; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate server.pem; ssl_certificate_key server.pem;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi; ssl_client_certificate ca.pem; ssl_verify_client optional;
    server {{ listen 127.0.0.1:{port} ssl http2;
        location / {{ return 200 "$ssl_protocol $ssl_client_s_dn"; }}
        location /to {{ return 302 $args; }}
        location /connection {{ return 200 "$connection $connection_requests $arg_n"; }} }}
    server {{ listen 127.0.0.1:{other} ssl; ssl_certificate other.pem; ssl_certificate_key other.pem; }}
    server {{ listen 127.0.0.1:{expired} ssl; ssl_certificate expired.pem; ssl_certificate_key expired.pem; }}
    server {{ listen 127.0.0.1:{selfsigned} ssl; ssl_certificate self.pem; ssl_certificate_key self.pem; }}
    server {{ listen 127.0.0.1:{h2c} http2; location / {{ return 200 "$server_protocol"; }} }}
}}
"""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
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
        self.ca_path = rehash(authority, directory / "authorities")
        self.client_cert, self.client_key = self._client(authority, "client")
        self.expired_cert, self.expired_key = self._client(authority, "late", not_after=past)
        self.encrypted_key = directory / "encrypted.key"
        command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:secret", "-in", str(self.client_key)]
        subprocess.run([*command, "-out", str(self.encrypted_key)], check=True)
        self.ports = {name: free_port() for name in ("port", "other", "expired", "selfsigned", "h2c")}
        self.port = self.ports["port"]
        user = "user root;" if os.geteuid() == 0 else ""
        config = directory / "nginx.conf"
        config.write_text(self.CONFIG.format(user=user, **self.ports))
        self._run([nginx_path(), "-p", str(directory), "-c", str(config), "-e", "stderr"], directory)

    def _client(
        self, authority: trustme.CA, name: str, not_after: datetime.datetime | None = None
    ) -> tuple[Path, Path]:
        """Files of a certificate of Alice's and of its key."""
        issued = authority.issue_cert("alice@example.com", common_name="alice", not_after=not_after)
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return cert, key

    def https(self, name: str = "port") -> str:
        """The URL of one of its servers."""
        return f"https://127.0.0.1:{self.ports[name]}/"
