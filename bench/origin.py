"""The origin: an nginx of the bench's own on loopback, with one short page and some files.

One nginx serves all contenders of a run. It is quick enough to be nobody's limit, and its
CPU time per query is in the table so that one can see that.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from bench import BenchError, proc, tls
from bench.openfiles import raise_limit
from bench.processes import running, waiting

BODY = "hacd's benchmark asks for this: a page of 53 bytes.."
BODY_SIZE = 53

#: s that an origin gets for the page
PATIENCE = 5.0

#: what is in this directory beside the configuration is served, under this name
FILES = "files"

#: loopback addresses that it listens on beside 127.0.0.1, each an origin of its own
ADDRESSES = [f"127.0.1.{number}" for number in range(1, 201)]

#: of sysexits.h: a service is unavailable
EX_UNAVAILABLE = 69

_CONFIG = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        {listen}
        default_type text/plain;
        location / {{ return 200 "{body}\\n"; }}
        location /{files}/ {{ alias {directory}/{files}/; }}
    }}
}}
"""

_LISTEN_TLS = """\
listen 127.0.0.1:{https} ssl backlog=1024;
        listen 127.0.0.1:{http2} ssl http2 backlog=1024;
        ssl_certificate {certificate};
        ssl_certificate_key {key};"""


@dataclass(frozen=True)
class Origin:
    """The origin that runs: the URLs to ask for, by what they are, and the processes that answer.

    `url`: the short page. `https`, `http2`: the same over TLS; "" where there is no openssl to make a certificate,
    and then `tls` is None.
    """

    url: str
    pids: list[int]
    https: str = ""
    http2: str = ""
    tls: tls.Authority | None = None
    addresses: list[str] = field(default_factory=list)

    def file(self, size: int) -> str:
        """A file of so many bytes."""
        return f"{self.url}{FILES}/{size}"


def program() -> str:
    """The path of nginx. Raises BenchError (69) where there is none."""
    path = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise BenchError("bench: no nginx here to ask: install it (Debian: apt install nginx-light)", EX_UNAVAILABLE)
    return path


def version() -> str:
    """`nginx/1.22.1`."""
    said = subprocess.run([program(), "-v"], capture_output=True, text=True, check=True).stderr
    return said.partition(":")[2].strip()


def keep_files(directory: Path, sizes: list[int]) -> None:
    """Files of those sizes (multiples of 256) for the origin that serves `directory`."""
    files = directory / FILES
    files.mkdir(exist_ok=True)
    for size in sizes:
        (files / str(size)).write_bytes(bytes(range(256)) * (size // 256))


@contextmanager
def serving(directory: Path) -> Iterator[Origin]:
    """Run the origin with its files in `directory`."""
    raise_limit()  # nginx has it from here
    port, https, http2 = (free_port() for _ in range(3))
    config, log = directory / "nginx.conf", directory / "nginx.log"
    # Workers of root's nginx give up their rights, and with them the directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    authority = tls.authority(directory)
    listen = "\n        ".join(f"listen {address}:{port} backlog=1024;" for address in ["127.0.0.1", *ADDRESSES])
    if authority is not None:
        shown = {"certificate": authority.certificate, "key": authority.key}
        listen += "\n        " + _LISTEN_TLS.format(https=https, http2=http2, **shown)
    config.write_text(_CONFIG.format(directory=directory, listen=listen, body=BODY, user=user, files=FILES))
    command = [program(), "-p", str(directory), "-c", str(config)]
    with log.open("w") as stderr, running(command, stderr=stderr) as process:
        for _ in waiting(process, "nginx", log):
            if answers(port):
                break
        yield Origin(
            url=f"http://127.0.0.1:{port}/",
            pids=proc.children(process.pid, "nginx: worker"),
            https=f"https://127.0.0.1:{https}/" if authority else "",
            http2=f"https://127.0.0.1:{http2}/" if authority else "",
            tls=authority,
            addresses=[f"http://{address}:{port}/" for address in ADDRESSES],
        )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int, patience: float = PATIENCE) -> bool:
    """Whether an origin there gives the page, within that many seconds."""
    connection = HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", "/")
        return len(connection.getresponse().read()) == BODY_SIZE
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
