"""Origins: real servers that nobody here wrote, and one for what no decent server does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.waiting import wait_for

#: what a misbehaving origin does with a connection, given the request's head
Script = Callable[[socket.socket, bytes], None]

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A server that runs as a process of its own, on `port`."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def _run(
        self,
        command: list[str],
        directory: Path,
        user: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it, with more `environment`, and wait until it listens. `user`: as whom root starts it."""
        with (directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                env=os.environ | (environment or {}),
            )
        wait_for(f"{command[0]} to listen", lambda: self.process.poll() is not None or listens(self.port))
        assert self.process.poll() is None, (directory / "server.log").read_text("utf-8", "replace")

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)


class Httpbin(Server):
    """httpbin behind gunicorn."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--threads", "16"]
        command += ["--worker-tmp-dir", str(directory), "--no-control-socket", "--keep-alive", "60", "httpbin:app"]
        self._run(command, directory)


NGINX = """
{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off; default_type text/plain; keepalive_requests 1000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 "01234567890123456789012345678901234567890123456789012"; }}
        location /file/ {{ alias {directory}/files/; }}
        location /short/ {{ keepalive_timeout 0; return 200 "closed"; }}
        location /connection {{ return 200 "$connection $connection_requests"; }}
    }}
}}
"""


class Nginx(Server):
    """nginx. Files under `files` are served as /file/NAME; /connection says which connection was used."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.files = directory / "files"
        self.files.mkdir()
        config = directory / "nginx.conf"
        # As root, nginx would give its workers to a user who cannot look into this directory.
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(user=user, port=self.port, directory=directory))
        self._run([nginx_path(), "-p", str(directory), "-c", str(config), "-e", "stderr"], directory)


def nginx_path() -> str:
    """Where nginx is; Debian keeps it out of the PATH of ordinary users."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin:/usr/local/sbin") or "nginx"


class RawOrigin:
    """A socket that does what `script` says with each request: drip, reset, close, lie.

    `heads` holds the requests' heads as they came; `release` lets go of scripts that wait for it.
    """

    def __init__(self, script: Script, host: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        self._listener = socket.create_server((host, port), backlog=1024)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://{host}:{self.port}"
        self.heads: list[bytes] = []
        self.release = threading.Event()
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def accepted(self) -> int:
        """Connections that were made to it."""
        return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while head := read_head(connection):
                self.heads.append(head)
                self._script(connection, head)
        except OSError:
            return  # the other side has had enough
        finally:
            connection.close()

    def close(self) -> None:
        """Let everybody go."""
        self.release.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()
        self._accepting.join(5)


def read_head(connection: socket.socket) -> bytes:
    """A request's head, up to its blank line; what follows of it may be in there too. Empty at the end."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            return b""
        head += data
    return head


def answer(connection: socket.socket, _head: bytes) -> None:
    """The script of an origin that behaves."""
    connection.sendall(REPLY)
