"""Every error that hacd raises or sends, with its code.

Two families. `Refused` is an answer: the daemon understood the call and says no,
with one of the wire's codes. The others say that there is no answer to be had:
nobody listens, the connection broke, the stream is not MessagePack-RPC, the
settings are wrong. A message is one line: what was wrong, where, what is right.
"""

from __future__ import annotations

from typing import Any

BAD_REQUEST = "bad_request"
UNKNOWN_METHOD = "unknown_method"
UNKNOWN_ROUTE = "unknown_route"
BUSY = "busy"
TOO_LARGE = "too_large"
FORBIDDEN = "forbidden"
STOPPING = "stopping"
INTERNAL = "internal"


class HacdError(Exception):
    """The base of every error that hacd raises."""


class Refused(HacdError):
    """The daemon refused the call; `code` is the wire's, `message` one line for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def as_wire(self) -> dict[str, str]:
        """The error as it stands in a response: `{"code", "message"}`."""
        return {"code": self.code, "message": self.message}


class BadRequest(Refused):
    """The call has a wrong form, an unknown option or a value out of bounds."""

    def __init__(self, message: str) -> None:
        super().__init__(BAD_REQUEST, message)


class ProtocolError(HacdError):
    """The stream is not MessagePack-RPC, or no longer: framing is lost, the connection must go."""


class FrameTooLarge(ProtocolError):
    """A frame is longer than `max_frame`; `msgid` is that of its call, or None if it was not to be read."""

    def __init__(self, message: str, msgid: int | None) -> None:
        super().__init__(message)
        self.msgid = msgid


class Unavailable(HacdError):
    """No daemon answers at the socket: it is not there, refuses, or may not be opened."""


class ConnectionLost(HacdError):
    """The daemon went away with this call in flight: its outcome is not known."""


class SettingsError(HacdError):
    """A setting is wrong; the message names file, setting, what is wrong and what is right."""


def shown(value: Any) -> str:
    """A foreign value as an error may repeat it: plain ones, cut short; of others only what they are."""
    if isinstance(value, str | int | float | None):
        text = repr(value[:60]) if isinstance(value, str) else repr(value)
        return text if len(text) <= 62 else text[:59] + "..."
    return f"a {type(value).__name__}"


def from_wire(error: Any) -> Refused:
    """The exception for the `error` member of a response, whatever a peer put there."""
    if isinstance(error, dict):
        code, message = str(error.get("code", INTERNAL)), str(error.get("message", ""))
        return BadRequest(message) if code == BAD_REQUEST else Refused(code, message)
    return Refused(INTERNAL, str(error))
