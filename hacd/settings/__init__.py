"""The settings: one table, and what follows from it."""

from hacd.settings import lists
from hacd.settings.checks import (
    check,
    check_files,
    default,
    from_text,
    is_live,
    literal,
    meta,
    names,
    quoted,
    resolve,
    right,
)
from hacd.settings.document import document
from hacd.settings.sources import Source, default_socket, load, loop_name, slots
from hacd.settings.table import SECTIONS, Hacd, HttpAsyncClient, Settings

__all__ = [
    "SECTIONS",
    "Hacd",
    "HttpAsyncClient",
    "Settings",
    "Source",
    "check",
    "check_files",
    "default",
    "default_socket",
    "document",
    "from_text",
    "is_live",
    "lists",
    "literal",
    "load",
    "loop_name",
    "meta",
    "names",
    "quoted",
    "resolve",
    "right",
    "slots",
]
