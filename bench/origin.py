"""The origin: an nginx of the bench's own on loopback, with one short page.

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
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from bench import BenchError, proc
from bench.processes import running, waiting

BODY = "hacd's benchmark asks for this: a page of 53 bytes.."
BODY_SIZE = 53

#: what is in this directory beside the configuration is served, under this name
FILES = "files"

#: of sysexits.h: a service is unavailable
EX_UNAVAILABLE = 69

_CONFIG = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 1024; }}
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
        listen 127.0.0.1:{port} backlog=1024;
        default_type text/plain;
        location / {{ return 200 "{body}\\n"; }}
        location /{files}/ {{ alias {directory}/{files}/; }}
    }}
}}
"""


@dataclass(frozen=True)
class Origin:
    """The origin that runs: the URL to ask for, and the processes that answer."""

    url: str
    pids: list[int]


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


@contextmanager
def serving(directory: Path) -> Iterator[Origin]:
    """Run the origin with its files in `directory`."""
    port = _free_port()
    config, log = directory / "nginx.conf", directory / "nginx.log"
    # Workers of root's nginx give up their rights, and with them the directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    config.write_text(_CONFIG.format(directory=directory, port=port, body=BODY, user=user, files=FILES))
    command = [program(), "-p", str(directory), "-c", str(config)]
    with log.open("w") as stderr, running(command, stderr=stderr) as process:
        for _ in waiting(process, "nginx", log):
            if _answers(port):
                break
        yield Origin(f"http://127.0.0.1:{port}/", proc.children(process.pid, "nginx: worker"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return len(connection.getresponse().read()) == BODY_SIZE
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
