"""What several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click


def line(text: str) -> str:
    """Foreign text for a terminal: on one line, and with no control characters that would steer it."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))


def as_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """A value as JSON that people can read, and that steers no terminal: what is not printable is escaped."""
    text = json.dumps(value, ensure_ascii=False, default=default)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


F = TypeVar("F", bound=Callable[..., Any])


def socket(command: F) -> F:
    """`--socket PATH`, for all commands that talk to a daemon."""
    text = (
        "The daemon's socket. Default: $HACD_SOCKET, else the first that exists of "
        "$XDG_RUNTIME_DIR/hacd/hacd.sock and /run/hacd/hacd.sock."
    )
    return click.option("--socket", "path", metavar="PATH", help=text)(command)


def _variables(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    for assignment in given:
        if not assignment.partition("=")[0] or "=" not in assignment:
            raise click.BadParameter(f"{assignment!r}: NAME=VALUE would be right")
    return dict(assignment.split("=", 1) for assignment in given) if given else None


def variables(text: str) -> Callable[[F], F]:
    """`--var NAME=VALUE`, repeatable, for commands that have pseudo variables: a map, or None without any."""
    return click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", callback=_variables, help=text)
