"""`hacd call`: enter one of the daemon's routes."""

from __future__ import annotations

import base64
from typing import Any

import click

from hacd.cli import options


@click.command(short_help="Enter one of the daemon's routes.")
@click.argument("route")
@options.variables("A pseudo variable of the route's; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, whatever the route replied.")
@options.socket
def call(path: str | None, route: str, variables: dict[str, str] | None, as_json: bool) -> None:
    """Enter one of the daemon's routes, and print what it replied: text and bytes as they are, the rest as JSON."""
    from hacd.client.blocking import Client

    with Client(path) as client:
        result = client.run(route, variables)
    if isinstance(result, str | bytes) and not as_json:
        click.echo(result)
    elif result is not None or as_json:
        click.echo(options.as_json(result, _text))


def _text(value: Any) -> str:
    """Bytes as JSON can hold them."""
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


COMMANDS = (call,)
