"""`hacd tail`: the last lines of the log, of all of the daemon's processes, and what follows."""

from __future__ import annotations

import click

from hacd.cli import options


@click.command(short_help="Print the last lines of the daemon's log.")
@click.option("-f", "--follow", is_flag=True, help="Go on with further lines, until Ctrl-C.")
@click.option("--id", "id_", metavar="ID", help="Only lines about that query.")
@click.option("--route", metavar="NAME", help="Only lines about queries of that route.")
@click.option("--level", type=click.Choice(["debug", "info", "warning", "error"]), help="The least level.")
@click.option("-n", "--lines", type=click.IntRange(0, 1000), default=10, show_default=True, help="The last N lines.")
@options.socket
def tail(path: str | None, follow: bool, id_: str | None, route: str | None, level: str | None, lines: int) -> None:
    """Print the last lines of the daemon's log, wherever it goes. For root and the daemon's own user.

    Exit code 69 when the daemon goes away meanwhile, or its front is replaced.
    """
    from contextlib import closing

    from hacd.client.blocking import Client
    from hacd.log.entry import Entry, as_text

    with closing(Client(path).tail(follow, id=id_, route=route, level=level, lines=lines)) as events:
        for event in events:
            click.echo(as_text(Entry.of(event)))


COMMANDS = (tail,)
