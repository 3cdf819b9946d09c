"""hypercorn with aioquic: an origin that speaks HTTP/3."""

from __future__ import annotations

import socket
import ssl
import sys
from pathlib import Path

import trustme

from tests.support.origins import Server, free_port
from tests.support.tls import rehash
from tests.support.waiting import PATIENCE

APP = '''
async def app(scope, receive, send):
    """Replies with the version that was spoken, the method, the path and the body."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    query = scope["query_string"]
    head = f"{scope['http_version']} {scope['method']} {scope['path']} ".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-foo", b"bar")]})
    await send({"type": "http.response.body", "body": head + query + b" " + body})
'''


class Hypercorn(Server):
    """HTTP/3 on the UDP port `quic`, where nobody listens on TCP. Its certificate is of an authority in `ca_path`."""

    def __init__(self, directory: Path) -> None:
        self.port, self.quic = free_port(), free_port()
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(directory / "cert.pem"), append=True)
        self.ca_path = rehash(authority, directory / "authorities")
        (directory / "application.py").write_text(APP)
        command = [sys.executable, "-m", "hypercorn", "--certfile", "cert.pem", "--keyfile", "key.pem"]
        command += ["--bind", f"127.0.0.1:{self.port}", "--quic-bind", f"127.0.0.1:{self.quic}", "application:app"]
        self._run(command, directory)
        self._greet(authority)

    def _greet(self, authority: trustme.CA) -> None:
        """Until it serves: it binds its ports before it does."""
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            context.wrap_socket(sock, server_hostname="127.0.0.1").close()

    @property
    def url(self) -> str:
        """Its address for HTTP/3, without a slash at the end."""
        return f"https://127.0.0.1:{self.quic}"
