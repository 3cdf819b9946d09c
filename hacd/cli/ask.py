"""The commands that ask a daemon what it does, and call off what it does."""

from __future__ import annotations

from typing import Any

import click

from hacd.cli import options

#: characters of the longest name in `stats`
WIDTH = 13


@click.command(short_help="The daemon's counters.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.socket
def stats(path: str | None, as_json: bool) -> None:
    """The daemon's counters: requests = replies + errors + timeouts + in_flight."""
    from hacd.client.blocking import Client

    with Client(path) as client:
        figures = client.stats()
    if as_json:
        click.echo(options.as_json(figures))
        return
    workers: list[dict[str, Any]] = figures.pop("workers")
    fronts: list[dict[str, Any]] = figures.pop("fronts", [])
    for name, value in figures.items():
        click.echo(f"{name:<{WIDTH}} {options.as_json(value)}")
    if len(fronts) > 1:
        _rows("front", fronts)
    _rows("worker", workers)


def _rows(name: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        figures = " ".join(f"{key}={value}" for key, value in row.items() if key != name)
        click.echo(f"{f'{name} {row[name]}':<{WIDTH}} {figures}")


@click.command()
@options.socket
def transactions(path: str | None) -> None:
    """What is in flight, the oldest first."""
    from hacd.client.blocking import Client

    with Client(path) as client:
        rows = client.transactions()
    click.echo(f"{'ID':<16} {'AGE_MS':>8} {'WORKER':>6} {'ROUTE':<16} URL")
    for row in rows:
        click.echo(f"{row['id']:<16} {row['age_ms']:>8} {row['worker']:>6} {row['route'] or '-':<16} {row['url']}")


@click.command(short_help="Call a transaction off.")
@click.argument("id_", metavar="ID")
@options.socket
def cancel(path: str | None, id_: str) -> int:
    """Call a transaction off; its caller gets an error (code 42). Exit code 1 if it is not in flight."""
    from hacd.client.blocking import Client

    with Client(path) as client:
        if client.cancel(id_):
            return 0
    click.echo(f"hacd cancel: {id_}: not in flight", err=True)
    return 1


COMMANDS = (stats, transactions, cancel)
