"""The commands that run a daemon, check its settings, and stop it."""

from __future__ import annotations

import click

from hacd.cli import options


@click.command()
@click.option("-c", "--config", metavar="FILE", help="Settings (TOML); conf/hacd.toml explains each.")
@click.option("--socket", "path", metavar="PATH", help="Listen here, in place of the setting hacd.socket.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override one setting; repeatable.")
def run(config: str | None, path: str | None, assignments: tuple[str, ...]) -> None:
    """Run the daemon in the foreground, until SIGTERM or SIGINT; a second one ends it at once."""
    from hacd import settings
    from hacd.supervisor import supervisor

    values = settings.load(config, assignments)
    if path is not None:
        settings.check("--socket: ", "hacd", "socket", path)
    supervisor.main(values, path or values.hacd.socket or settings.default_socket())


@click.command()
@click.option("-c", "--config", required=True, metavar="FILE", help="The file to check.")
def check(config: str) -> None:
    """Check a settings file: exit code 0, or 78 and one line that says what is wrong."""
    from hacd import settings

    settings.load(config)
    click.echo(f"{config}: ok")


@click.command()
@options.socket
def stop(path: str | None) -> None:
    """Drain and stop the daemon; returns when it is gone."""
    import socket
    import time

    from hacd.client.blocking import Client
    from hacd.client.calls import find_socket
    from hacd.errors import ConnectionLost

    where = find_socket(path)
    with Client(where) as client:
        client.stop()
        try:
            while True:  # the front answers while it drains
                client.ping()
                time.sleep(0.05)
        except ConnectionLost:
            pass
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(where):
                return
        time.sleep(0.01)


COMMANDS = (run, check, stop)
