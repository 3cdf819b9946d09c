"""hacd: an HTTP client that other programs share.

    from hacd import Client, AsyncClient

Importing this loads neither libcurl nor a loop: those are the daemon's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "ConnectionLost",
    "HacdError",
    "ProtocolError",
    "Refused",
    "Reply",
    "Unavailable",
    "__version__",
]

if TYPE_CHECKING:
    from hacd.client.aio import AsyncClient
    from hacd.client.blocking import Client
    from hacd.errors import ConnectionLost, HacdError, ProtocolError, Refused, Unavailable
    from hacd.reply import Reply

_HOMES = {"AsyncClient": "hacd.client.aio", "Client": "hacd.client.blocking", "Reply": "hacd.reply"}


def __getattr__(name: str) -> Any:
    """Load what is asked for, and no more: a caller that waits for nothing needs no asyncio."""
    if name not in __all__:
        raise AttributeError(f"module 'hacd' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES.get(name, "hacd.errors")), name)
    globals()[name] = value
    return value
