"""Fixtures: origins once a session, a daemon once a module, and a factory for daemons of a test's own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from hacd import Client
from tests.support.daemon import FRONTS, Daemon
from tests.support.one_front import wants_one
from tests.support.origins import Httpbin, Nginx, RawOrigin, Script, free_port
from tests.support.routes import write_routes
from tests.support.tls import TlsNginx


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several fronts, leave out the tests of one."""
    if FRONTS > 1:
        for item in items:
            if wants_one(item.path.stem, getattr(item, "originalname", item.name)):
                item.add_marker(pytest.mark.skip(reason="of a daemon with one front"))


StartDaemon = Callable[..., Daemon]
StartRoutes = Callable[..., Daemon]


class StartOrigin(Protocol):
    """`start_origin(script, host, port)`: an origin that does what the script says, at that address of loopback."""

    def __call__(self, script: Script, /, host: str = "127.0.0.1", port: int = 0) -> RawOrigin: ...


@pytest.fixture(scope="session")
def httpbin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Httpbin]:
    server = Httpbin(tmp_path_factory.mktemp("httpbin"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    server = Nginx(tmp_path_factory.mktemp("nginx"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNginx]:
    server = TlsNginx(tmp_path_factory.mktemp("tls"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that a module's tests share: they must not kill it, nor count its statistics."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon")).wait_ready()
    yield daemon
    daemon.close()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


@contextmanager
def daemons(make_directory: Callable[[], Path], **always: object) -> Iterator[StartDaemon]:
    """Starts daemons, each ready and in a directory of its own, and ends them."""
    started: list[Daemon] = []

    def start(**settings: object) -> Daemon:
        daemon = Daemon(make_directory(), **{**always, **settings})  # type: ignore[arg-type]
        started.append(daemon)
        return daemon.wait_ready()

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture
def start_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDaemon]:
    """`start_daemon(**settings)`: a daemon of the test's own, ready."""
    with daemons(lambda: tmp_path_factory.mktemp("daemon")) as start:
        yield start


@pytest.fixture
def start_open_daemon() -> Iterator[StartDaemon]:
    """`start_open_daemon(**settings)`: one that every user can reach; pytest's own directories are shut to others."""

    with tempfile.TemporaryDirectory(prefix="hacd-test-") as directory:
        os.chmod(directory, 0o711)

        def make_directory() -> Path:
            path = Path(tempfile.mkdtemp(dir=directory))
            path.chmod(0o711)
            return path

        with daemons(make_directory, socket_mode="0666") as start:
            yield start


@pytest.fixture
def routes(start_daemon: StartDaemon, tmp_path: Path) -> StartRoutes:
    """`routes(text, origin, **settings)`: a daemon with these routes of its own."""

    def start(text: str, origin: str = "", **settings: object) -> Daemon:
        return start_daemon(routes=write_routes(tmp_path, text, origin), **settings)

    return start


@pytest.fixture
def start_origin() -> Iterator[StartOrigin]:
    started: list[RawOrigin] = []

    def start(script: Script, host: str = "127.0.0.1", port: int = 0) -> RawOrigin:
        started.append(RawOrigin(script, host, port))
        return started[-1]

    yield start
    for origin in started:
        origin.close()


@pytest.fixture
def nobody() -> str:
    """The URL of an origin that refuses connections."""
    return f"http://127.0.0.1:{free_port()}/"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path
