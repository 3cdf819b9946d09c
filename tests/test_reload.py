"""Settings that change while the daemon runs: `set`, `reload` and SIGHUP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hacd import Client, Refused
from hacd.errors import SettingsError
from hacd.rpc import pack
from hacd.settings import Settings
from hacd.settings.live import dump, merged, restore, with_value
from hacd.settings.table import Egress, Hacd, HttpAsyncClient, Limits
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import Httpbin, Nginx, answer
from tests.support.stranger import needs_root, stranger
from tests.support.waiting import wait_for
from tests.support.wire import Wire

# -- what decides


def test_a_reload_takes_what_is_live_and_names_the_rest() -> None:
    old = Settings()
    new = Settings(
        http_async_client=HttpAsyncClient(workers=2, connection_timeout=7),
        hacd=Hacd(socket="/x", drain_timeout=1),
        limits=Limits(max_body=5),
    )
    then, changed, at_start = merged(old, new)
    assert changed == ["http_async_client.connection_timeout", "hacd.drain_timeout", "limits.max_body"]
    assert at_start == ["http_async_client.workers", "hacd.socket"]
    assert (then.http_async_client.workers, then.hacd.socket) == (1, "")
    assert (then.http_async_client.connection_timeout, then.limits.max_body) == (7, 5)
    assert merged(then, new)[1:] == ([], at_start)


def test_settings_travel_whole() -> None:
    egress = Egress(deny=(), users={"0": {"ports": ("80",)}, "1": {}}, groups={"0": {}})
    settings = Settings(hacd=Hacd(socket="/grün", allow_users=("0",)), limits=Limits(max_body=5), egress=egress)
    assert restore(dump(settings)) == settings


def test_one_setting_changes() -> None:
    settings, whole = with_value(Settings(), "max_body", 5)
    assert (whole, settings) == ("limits.max_body", Settings(limits=Limits(max_body=5)))


# -- set


def test_set_of_the_front(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = start_daemon(connection_timeout=20_000)
    with daemon.client() as client:
        assert client.set("connection_timeout", 50) is True
        assert client.query(silent.url).code == 28
        assert client.set("limits.max_transactions", 1)
        client.send(silent.url, timeout=20_000)
        with pytest.raises(Refused, match=r"max_transactions \(1\)"):
            client.query(silent.url)
    assert "http_async_client.connection_timeout is set to 50 by uid" in daemon.log


def test_set_of_the_workers(start_daemon: StartDaemon, httpbin: Httpbin) -> None:
    """They take it for the next query, also with a handle that is set up and idle; their process stays."""
    daemon = start_daemon()
    pid = daemon.pid("worker 1")
    with daemon.client() as client:
        assert client.query(f"{httpbin.url}/redirect/1").rs == 302
        client.set("curl_follow_redirect", 1)
        assert client.query(f"{httpbin.url}/redirect/1").rs == 200
        client.set("max_body", 10)
        assert client.query(f"{httpbin.url}/bytes/11").code == 63
    assert daemon.pid("worker 1") == pid


def test_what_was_set_holds_for_processes_that_start_later(start_daemon: StartDaemon, httpbin: Httpbin) -> None:
    daemon = start_daemon()
    with daemon.client() as client:
        client.set("curl_follow_redirect", 1)
        worker = daemon.pid("worker 1")
        os.kill(worker, signal.SIGKILL)
        wait_for("the front to miss it", lambda: worker not in [row["pid"] for row in daemon.stats()["workers"]])
        assert client.query(f"{httpbin.url}/redirect/1", timeout=20_000).rs == 200
    front = daemon.pid("front")
    os.kill(front, signal.SIGKILL)
    wait_for("another front", lambda: daemon.pid("front") != front)
    with daemon.client() as client:
        assert client.query(f"{httpbin.url}/redirect/1", timeout=20_000).rs == 200


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (["connection_timeout", 0], "http_async_client.connection_timeout: 0 is wrong: an integer from 1 to"),
        (["connection_timeout", "1"], "http_async_client.connection_timeout: '1' is wrong"),
        (["connection_timeou", 1], "connection_timeou: no such setting; did you mean connection_timeout?"),
        (["limit.max_body", 1], "no such section 'limit'; did you mean limits?"),
        (["workers", 2], "http_async_client.workers: it is read at the start only"),
        (["max_body"], "set: params: [name, value] would be right"),
        ([1, 2], "set: params: [name, value] would be right"),
        (["max_body", {"a": []}], "limits.max_body: {'a': []} is wrong"),
    ],
)
def test_wrong_set(daemon: Daemon, params: list[Any], message: str) -> None:
    with Wire(daemon.socket) as wire:
        error, _ = wire.call("set", params)
        assert error["code"] == "bad_request"
        assert message in error["message"]


DEEP: Any = None
for _ in range(1000):
    DEEP = [DEEP]


@pytest.mark.parametrize("name", ["max_body", "log_level", "hacd.allow_users", "egress.deny", "egress.users"])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("in\udcfffo", id="no UTF-8"),
        pytest.param("x" * 100_000, id="long"),
        pytest.param(DEEP[0], id="deep"),
        pytest.param({"0": {"ports": DEEP[0][0][0][0]}}, id="deep rules"),
        pytest.param({7: {}}, id="a number as a user"),
        pytest.param({None: {}}, id="nil as a user"),
        pytest.param({b"root": {}}, id="bytes as a user"),
        pytest.param({"0": {7: []}}, id="a number as a list"),
        pytest.param({"0": {"x" * 100_000: []}}, id="a long name of a list"),
    ],
)
def test_foreign_values_are_refused_in_a_line(name: str, value: Any) -> None:
    """A caller's `set` brings whatever MessagePack can hold: what is raised for it and is no refusal ends the front."""
    with pytest.raises(SettingsError) as refused:
        with_value(Settings(), name, value)
    assert len(str(refused.value)) < 500
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "name", ["x" * 100_000, "x.y" * 50_000, "limits." + "x" * 100_000, "a\nb", "limits.\udcff", "."]
)
def test_foreign_names_are_refused_in_a_line(name: str) -> None:
    with pytest.raises(SettingsError, match="no such") as refused:
        with_value(Settings(), name, 1)
    assert len(str(refused.value)) < 1500
    assert str(refused.value).isprintable()


def test_set_of_what_is_no_utf8(daemon: Daemon) -> None:
    front = daemon.pid("front")
    with Wire(daemon.socket) as wire:
        for value in ("in\udcfffo", DEEP[0][0][0][0]):
            wire.raw(pack([0, 1, "set", ["log_level", value]]))
            assert wire.receive()[2]["code"] == "bad_request"
    assert daemon.pid("front") == front


def hacd(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hacd", *words], capture_output=True, text=True, check=False)


def test_commands(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    silent = start_origin(lambda _sock, _head: None)
    daemon = start_daemon()
    assert hacd("set", "--socket", daemon.socket, "connection_timeout", "50").returncode == 0
    with daemon.client() as client:
        assert client.query(silent.url).code == 28
    wrong = hacd("set", "--socket", daemon.socket, "connection_timeout", "soon")
    assert wrong.returncode == 78
    assert wrong.stderr.startswith("hacd: http_async_client.connection_timeout: 'soon' is wrong")
    below = hacd("set", "--socket", daemon.socket, "max_body", "-1")
    assert (below.returncode, below.stderr.count("-1 is wrong")) == (78, 1)
    refused = hacd("set", "--socket", daemon.socket, "workers", "2")
    assert refused.returncode == 78
    assert refused.stderr.startswith("hacd: set: http_async_client.workers: it is read at the start only")
    done = hacd("reload", "--socket", daemon.socket)
    assert (done.returncode, done.stdout) == (0, "changed: http_async_client.connection_timeout\n")


# -- reload


def config(path: Path, **settings: object) -> Path:
    path.write_text("[http_async_client]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    return path


def test_reload(start_daemon: StartDaemon, httpbin: Httpbin, tmp_path: Path) -> None:
    file = config(tmp_path / "hacd.toml", curl_follow_redirect=0)
    daemon = start_daemon(config=file)
    front, worker = daemon.pid("front"), daemon.pid("worker 1")
    with daemon.client() as client:
        assert client.reload() == {"changed": [], "at_start": []}
        config(file, curl_follow_redirect=1, workers=2)
        changed = {"changed": ["http_async_client.curl_follow_redirect"], "at_start": ["http_async_client.workers"]}
        assert client.reload() == changed
        assert client.query(f"{httpbin.url}/redirect/1").rs == 200
    assert (daemon.pid("front"), daemon.pid("worker 1")) == (front, worker)
    assert "what is read at the start only stays as it was until then: http_async_client.workers" in daemon.log


def test_a_wrong_file_is_refused_whole(start_daemon: StartDaemon, httpbin: Httpbin, tmp_path: Path) -> None:
    file = config(tmp_path / "hacd.toml", curl_follow_redirect=1)
    daemon = start_daemon(config=file)
    daemon.tolerate.add(" ERROR ")
    config(file, curl_follow_redirect=0, tls_version=9)
    wrong = f"reload: {file}: http_async_client.tls_version: 9 is wrong: one of 0, 1, 4, 5, 6, 7 would be right"
    with daemon.client() as client:
        with pytest.raises(Refused) as refused:
            client.reload()
        assert (refused.value.code, refused.value.message) == ("bad_request", wrong)
        assert client.query(f"{httpbin.url}/redirect/1").rs == 200
    said = hacd("reload", "--socket", daemon.socket)
    assert (said.returncode, said.stderr) == (78, f"hacd: {wrong}\n")
    os.kill(daemon.process.pid, signal.SIGHUP)
    wait_for("three refusals", lambda: daemon.log.count("reload refused, all stays as it was: ") == 3)


def test_hangup_reloads(start_daemon: StartDaemon, nginx: Nginx, tmp_path: Path) -> None:
    file = config(tmp_path / "hacd.toml", curl_follow_redirect=0)
    daemon = start_daemon(config=file)
    pids = [daemon.pid("front"), daemon.pid("worker 1")]
    config(file, curl_follow_redirect=1)
    for pid in [daemon.process.pid, *pids]:  # as to a whole service
        os.kill(pid, signal.SIGHUP)
    wait_for("the reload", lambda: "reloaded by SIGHUP: changed http_async_client.curl_follow_redirect" in daemon.log)
    assert [daemon.pid("front"), daemon.pid("worker 1")] == pids


def test_hangup_without_a_front_is_not_forgotten(start_daemon: StartDaemon, tmp_path: Path) -> None:
    file = config(tmp_path / "hacd.toml", curl_follow_redirect=0)
    daemon = start_daemon(config=file)
    front = daemon.pid("front")
    config(file, curl_follow_redirect=1)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    os.kill(front, signal.SIGKILL)
    os.kill(daemon.process.pid, signal.SIGHUP)
    os.kill(daemon.process.pid, signal.SIGCONT)
    wait_for("the reload", lambda: "reloaded by SIGHUP: changed http_async_client.curl_follow_redirect" in daemon.log)


def test_what_was_set_goes_with_a_reload(start_daemon: StartDaemon, start_origin: StartOrigin) -> None:
    origin = start_origin(answer)
    with start_daemon().client() as client:
        client.set("authmethod", 1)
        client.query(origin.url, username="alice", password="secret")
        assert client.reload()["changed"] == ["http_async_client.authmethod"]
        client.query(origin.url, username="alice", password="secret")
    assert [b"Authorization" in head for head in origin.heads] == [True, False]


@needs_root
@pytest.mark.parametrize("call", ["set", "reload", "tail"])
def test_other_users_may_not(start_open_daemon: StartDaemon, call: str) -> None:
    with stranger(start_open_daemon().socket, f"print(call({call!r}, ['max_body', 1])[0]['code'])") as caller:
        assert caller.communicate()[0] == "forbidden\n"


def test_client_class(daemon: Daemon) -> None:
    with Client(daemon.socket) as client, pytest.raises(Refused) as refused:
        client.set("max_body", -1)
    assert refused.value.code == "bad_request"


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("tls_client_cert", "/no/such", "file"),
        ("tls_client_key", "/", "file"),
        ("tls_ca_path", "/etc/passwd", "directory"),
    ],
)
def test_files_that_parameters_name(daemon: Daemon, tmp_path: Path, name: str, value: str, what: str) -> None:
    """At a set, at a check and at the start: one wrong name would change every query at once."""
    wrong = f"http_async_client.{name}: '{value}' is wrong: no {what} there that hacd may read"
    with daemon.client() as client, pytest.raises(Refused) as refused:
        client.set(name, value)
    assert refused.value.message == f"set: {wrong}"
    file = config(tmp_path / "hacd.toml", **{name: f'"{value}"'})
    for command in ("check", "run"):
        said = hacd(command, "-c", str(file))
        assert (said.returncode, said.stderr) == (78, f"hacd: {file}: {wrong}\n")


def test_switches_of_the_manual_are_on_with_any_value_but_0(start_daemon: StartDaemon, httpbin: Httpbin) -> None:
    daemon = start_daemon(curl_follow_redirect=2, curl_verbose=7)
    with daemon.client() as client:
        assert client.query(f"{httpbin.url}/redirect/1").rs == 200
    assert "[cURL hdr out] GET /redirect/1" in daemon.log
