"""What several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click


def line(text: str) -> str:
    """Foreign text for a terminal: on one line, and with no control characters that would steer it."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split()))


F = TypeVar("F", bound=Callable[..., Any])


def socket(command: F) -> F:
    """`--socket PATH`, for all commands that talk to a daemon."""
    text = (
        "The daemon's socket. Default: $HACD_SOCKET, else the first that exists of "
        "$XDG_RUNTIME_DIR/hacd/hacd.sock and /run/hacd/hacd.sock."
    )
    return click.option("--socket", "path", metavar="PATH", help=text)(command)
