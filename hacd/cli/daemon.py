"""The commands that run a daemon, check its settings, and stop it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hacd.cli import options

if TYPE_CHECKING:
    from hacd.client.blocking import Client
    from hacd.settings import Settings


@click.command(short_help="Run the daemon in the foreground.")
@click.option("-c", "--config", metavar="FILE", help="Settings (TOML); conf/hacd.toml explains each.")
@click.option("--socket", "path", metavar="PATH", help="Listen here, in place of the setting hacd.socket.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override one setting; repeatable.")
def run(config: str | None, path: str | None, assignments: tuple[str, ...]) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT; a second one ends it at once."""
    from hacd import settings
    from hacd.errors import SettingsError
    from hacd.supervisor.main import main

    _open_standard_files()
    source = settings.Source(config, assignments)
    values = source.load()
    if path is not None:
        if not path:
            raise SettingsError("--socket: an empty path is wrong: leave the option out for the default")
        settings.check("--socket: ", "hacd", "socket", path)
    try:
        settings.check_files(values)
        main(source, values, path or values.hacd.socket or settings.default_socket())
    except SettingsError as error:
        raise source.placed(error) from None


def _open_standard_files() -> None:
    """Where one of the first three descriptors is closed, a socket would take its place, and the log go there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


@click.command(short_help="Check a settings file.")
@click.option("-c", "--config", required=True, metavar="FILE", help="The file to check.")
def check(config: str) -> None:
    """Check a settings file: exit code 0, or 78 and one line that says what is wrong."""
    from hacd import settings
    from hacd.errors import SettingsError

    source = settings.Source(config)
    values = source.load()
    try:
        _check(values)
    except SettingsError as error:
        raise source.placed(error) from None
    click.echo(f"{config}: ok")


def _check(values: Settings) -> None:
    """What settings name: is it there? Raises SettingsError."""
    from hacd import log, settings
    from hacd.front.routing.script import check_apart
    from hacd.supervisor import sockets

    settings.check_files(values)
    log.check_target(values.hacd.log_target)
    sockets.owner(values.hacd)
    if values.hacd.routes:
        check_apart(values.hacd.routes)


@contextmanager
def _wrong_settings() -> Iterator[None]:
    """What the daemon refuses of settings are wrong settings here too, whoever of the two finds it."""
    from hacd.errors import BadRequest, SettingsError

    try:
        yield
    except BadRequest as refused:
        raise SettingsError(refused.message) from None


# A value may be a number below 0, which click would take for an option.
@click.command(
    "set", short_help="Change one setting of the running daemon.", context_settings={"ignore_unknown_options": True}
)
@click.argument("name")
@click.argument("value")
@options.socket
def set_(path: str | None, name: str, value: str) -> None:
    """Change one setting of the running daemon, until its next reload or start."""
    from hacd import settings
    from hacd.client.blocking import Client

    section, setting = settings.resolve("", name)
    converted = settings.from_text("", section, setting, value)
    with _wrong_settings(), Client(path) as client:
        client.set(f"{section}.{setting}", converted)


@click.command(short_help="Have the daemon read its settings and routes again.")
@options.socket
def reload(path: str | None) -> None:
    """Have the running daemon read its settings and routes again; what is wrong is refused whole, exit code 78."""
    from hacd.client.blocking import Client

    with _wrong_settings(), Client(path) as client:
        done = client.reload()
    click.echo(f"changed: {', '.join(done['changed']) or 'nothing'}")
    if done["at_start"]:
        click.echo(f"takes a restart: {', '.join(done['at_start'])}")


@click.command()
@options.socket
def stop(path: str | None) -> None:
    """Drain and stop the daemon; returns when it is gone."""
    import time

    from hacd.client.blocking import Client

    with Client(path) as client:
        front = client.ping()
        pids = {front["pid"], *(row["pid"] for row in client.stats().get("fronts", ()))}
        client.stop()
        while not (client.hung_up() if front["activated"] else _is_gone(client, pids)):
            time.sleep(0.02)


def _is_gone(client: Client, pids: set[int]) -> bool:
    """A front answers while it drains, and after the last the supervisor's socket waits for one to come.

    Not for a socket of systemd's: to dial it would start the next daemon.
    """
    from hacd.errors import ConnectionLost, Refused, Unavailable

    try:
        return client.ping()["pid"] not in pids  # another is another daemon's, at the same path
    except (ConnectionLost, Refused):
        return False
    except Unavailable:
        return True


COMMANDS = (run, check, set_, reload, stop)
