"""The manual's examples, run between a daemon and an origin of their own: `make demo`.

Starts both, sends the manual's GET, POST and DELETE, one query to where nobody listens and one
that takes too long, and says what each resumed. Then GET and POST once more in routes of the
daemon's own, those of `conf/routes.py`. Then it looks whether the daemon counted what was sent. Exit
code 0 if all was as expected.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from hacd import AsyncClient, Client, Reply, Unavailable

ROUTES = Path(__file__).resolve().parents[2] / "conf" / "routes.py"

#: curl's codes
REFUSED, TIMED_OUT = 7, 28

#: seconds that the daemon may take to start, and to stop
PATIENCE = 10.0


# -- the two routes of the manual's script


def http_reply(reply: Reply) -> None:
    """The manual's `route[HTTP_REPLY]`: a transaction is resumed here, whatever its end was."""
    if reply.ok:
        print(f"  route[HTTP_REPLY]: status {reply.rs}")
        print(f"  route[HTTP_REPLY]: body   {reply.rb.decode()}")
    else:
        print(f"  route[HTTP_REPLY]: error  {reply.err}")


def request(hacd: Client, origin: str, nobody: str) -> None:
    """The manual's `REQUEST_ROUTE`: each query suspends its transaction until the reply is there."""
    say("GET")
    reply = hacd.query(f"{origin}/test.php?r_uri=alice&f_uri=bob", "HTTP_REPLY")
    http_reply(reply)
    expect(reply, rs=200, rb=b"GET r_uri=alice f_uri=bob")

    say("POST, since there is a body")
    reply = hacd.query(f"{origin}/test.php", "HTTP_REPLY", body="{'r_uri':'alice', 'f_uri':'bob'}")
    http_reply(reply)
    expect(reply, rs=200, rb=b"POST {'r_uri':'alice', 'f_uri':'bob'}")

    say("an error: nobody listens there")
    reply = hacd.query(f"{nobody}/test.php", "HTTP_REPLY")
    http_reply(reply)
    expect(reply, code=REFUSED)

    say("a timeout: the origin takes longer than 100 ms")
    reply = hacd.query(f"{origin}/slow", "HTTP_REPLY", timeout=100)
    http_reply(reply)
    expect(reply, code=TIMED_OUT)


async def request_unsuspended(path: str, origin: Origin) -> None:
    """The manual's last example: `$http_req(suspend) = 0`. The query's id comes at once, its reply later."""
    say("DELETE with two headers, not suspended")
    resumed: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    async with AsyncClient(path) as hacd:

        @hacd.route("HTTP_REPLY")
        def route(reply: Reply) -> None:
            http_reply(reply)
            resumed.set_result(reply)

        headers = ["X-Sip-Call-Id: 1234@example.com", "X-Foo: bar"]
        query_id = await hacd.send(f"{origin.url}/test.php", "HTTP_REPLY", method="DELETE", hdr=headers)
        print(f"  Query id: {query_id}")
        origin.may_delete.set()
        reply = await asyncio.wait_for(resumed, PATIENCE)
    print(f"  received reply for query {reply.id}")
    expect(reply, id=query_id, rb=b"DELETE X-Sip-Call-Id: 1234@example.com, X-Foo: bar")


def run_in_the_daemon(hacd: Client, directory: Path, origin: str) -> None:
    """The same in the daemon's own routes: the caller gives its variables, and gets what the last route replied."""
    routes = directory / "routes.py"
    routes.write_text(ROUTES.read_text().replace("http://127.0.0.1:8080", origin).replace("= 1000", "= 5000"))
    hacd.set("hacd.routes", str(routes))
    for what, route, body in (
        ("GET", "REQUEST", b"GET r_uri=alice f_uri=bob"),
        ("POST", "POST", b"POST {'r_uri':'alice', 'f_uri':'bob'}"),
    ):
        say(f"{what} in a route of the daemon's own")
        replied = hacd.run(route, {"rU": "alice", "fU": "bob"})
        print(f"  run({route!r}): {replied}")
        if replied != {"status": 200, "body": body}:
            raise Unexpected(f"run({route!r}) replied {replied!r}")


def statistics(hacd: Client) -> None:
    """The manual's statistics, and that they are what was sent."""
    say("statistics")
    names = ("requests", "replies", "errors", "timeouts", "in_flight")
    counted = {name: hacd.stats()[name] for name in names}
    for name, count in counted.items():
        print(f"  {name:<9} {count}")
    sent = {"requests": 7, "replies": 5, "errors": 1, "timeouts": 1, "in_flight": 0}
    if counted != sent:
        raise Unexpected(f"statistics: {counted}, not {sent}")
    print("  requests = replies + errors + timeouts + in_flight")


# -- what they run between


class Unexpected(Exception):
    """Something is not as the manual has it."""


class Origin(ThreadingHTTPServer):
    """A local HTTP server on a free port. It tells what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.may_delete = threading.Event()  # so that the id is printed before the reply is there
        self.closing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One caller of the origin."""

    server: Origin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say the query string, or, as `/slow`, nothing in time."""
        url = urlsplit(self.path)
        if url.path == "/slow":
            self.server.closing.wait(PATIENCE)
        self._answer(" ".join(f"{name}={value}" for name, value in parse_qsl(url.query)))

    def do_POST(self) -> None:
        """Say the body."""
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def do_DELETE(self) -> None:
        """Say the headers that begin with X."""
        self.server.may_delete.wait(PATIENCE)
        self._answer(", ".join(f"{name}: {value}" for name, value in self.headers.items() if name.startswith("X-")))

    def _answer(self, text: str) -> None:
        body = f"{self.command} {text}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the demo does."""

    def handle(self) -> None:
        """Serve, until the daemon hangs up: after its timeout it waits for no answer."""
        try:
            super().handle()
        except ConnectionError:
            return


@contextmanager
def running_origin() -> Iterator[Origin]:
    """An origin that serves in a thread."""
    with Origin() as origin:
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        yield origin
        origin.closing.set()
        origin.shutdown()


@contextmanager
def nobody_listening() -> Iterator[str]:
    """The URL of a port that is bound, so nobody else's, and on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def running_daemon(directory: Path) -> Iterator[str]:
    """A daemon of its own in that directory; gives the path of its socket."""
    path, log = directory / "hacd.sock", directory / "hacd.log"
    # A slow machine shall not make a timeout of what is none.
    command = [sys.executable, "-m", "hacd", "run", "--socket", str(path), "--set", "connection_timeout=5000"]
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as daemon:
        try:
            wait_until_it_answers(str(path), daemon, log)
            yield str(path)
        finally:
            daemon.terminate()
    if daemon.returncode or path.exists():
        raise Unexpected(f"the daemon ended with exit code {daemon.returncode}\n{log.read_text()}")


def wait_until_it_answers(path: str, daemon: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until a caller is answered."""
    give_up = time.monotonic() + PATIENCE
    while daemon.poll() is None and time.monotonic() < give_up:
        try:
            with Client(path) as hacd:
                hacd.ping()
            return
        except Unavailable:
            time.sleep(0.02)
    raise Unexpected(f"the daemon does not start\n{log.read_text()}")


# -- the demo


def say(what: str) -> None:
    """A heading."""
    print(f"\n{what}")


def expect(reply: Reply, **expected: object) -> None:
    """That the reply's members have these values."""
    for name, value in expected.items():
        if getattr(reply, name) != value:
            raise Unexpected(f"{name} is {getattr(reply, name)!r}, not {value!r}: {reply!r}")


def main() -> int:
    """Run the examples. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="hacd-demo-") as directory:
        try:
            with running_daemon(Path(directory)) as path, running_origin() as origin, nobody_listening() as nobody:
                print(f"daemon at {path}, origin at {origin.url}")
                with Client(path) as hacd:
                    request(hacd, origin.url, nobody)
                    asyncio.run(request_unsuspended(path, origin))
                    run_in_the_daemon(hacd, Path(directory), origin.url)
                    statistics(hacd)
        except Unexpected as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
    print("\nThe daemon has stopped. All was as expected.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
