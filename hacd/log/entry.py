"""One event of the log, and its forms: a line of text, a line of JSON, a map for who tails the log.

Law: foreign text starts no line of its own, steers no terminal, and is as long as LINE_MAX lets it be.
Of a longer one no more than READ_MAX is looked at: what it costs has a bound, too.
Time here is the wall clock: it is for people. Nothing that expires is reckoned by it.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from hacd.log import redaction

#: characters of one event's text, and of its traceback where it has one
LINE_MAX = 4096
TRACE_MAX = 8192

#: Characters of a text that are looked at. More than are shown: what is hidden makes room for what comes
#: behind it, and a secret is told by its begin and, where it is user-info, by its end.
READ_MAX = LINE_MAX + 65_536

#: levels, with syslog's numbers for them
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


class Entry(NamedTuple):
    """An event. `created`: s since 1970; `id` and `route`: of the query that it is about, or ""."""

    created: float
    level: str
    process: str
    pid: int
    id: str
    route: str
    message: str

    def as_map(self) -> dict[str, Any]:
        """As it travels to who tails the log: a map of `time level process pid id route message`."""
        return {"time": rfc3339(self.created), **dict(zip(self._fields[1:], self[1:], strict=True))}

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Entry:
        """The event that such a map tells of."""
        created = datetime.fromisoformat(event["time"]).timestamp()
        return cls(created, *(event[name] for name in cls._fields[1:]))


def entry(record: logging.LogRecord, process: str, secrets: bool) -> Entry:
    """What of a record is logged: bounded, printable, and without secrets unless `secrets`."""
    message = _line(record.getMessage(), secrets)
    if record.exc_info and record.exc_info[0]:
        message += "\n" + _trace("".join(traceback.format_exception(*record.exc_info)), secrets)
    about = record.__dict__
    level = record.levelname.lower()
    id_, route = about.get("query_id", ""), about.get("route", "")
    return Entry(record.created, level, process, record.process or 0, id_, printable(route), message)


def _line(text: str, secrets: bool) -> str:
    """One line, as it is logged."""
    read = text[:READ_MAX]
    more = len(text) - len(read)
    shown = read if secrets else redaction.line(read, cut=more > 0)
    more += max(0, len(shown) - LINE_MAX)
    return cut(printable(shown[:LINE_MAX]), LINE_MAX, more)


def _trace(text: str, secrets: bool) -> str:
    """The end of a traceback, which says what happened: whole lines, as long as there is room."""
    lines: list[str] = []
    shown = read = 0
    for line in reversed(text.rstrip("\n").rsplit("\n", TRACE_MAX)):
        lines.append(_line(line, secrets))
        shown += len(lines[-1]) + 1
        read += len(line)
        if shown > TRACE_MAX or read > READ_MAX:
            break
    return "\n".join(reversed(lines))[-TRACE_MAX:]


def printable(text: str) -> str:
    """The text with what is not printable spelled out: control bytes, those past ASCII that terminals heed
    too, marks that turn the direction of writing, and bytes that were no UTF-8."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def cut(text: str, most: int, more: int = 0) -> str:
    """The text, at most that long; one that was cut says by how much. `more`: characters cut before."""
    more += max(0, len(text) - most)
    return f"{text[:most]}… ({more} characters more)" if more else text


def rfc3339(created: float) -> str:
    """A time in UTC, to the millisecond."""
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_text(event: Entry) -> str:
    """`2026-01-31 12:00:00.123 INFO hacd: worker 1[4242] ab12cd-1000001: text`, in the time of this place.

    Only an event with a traceback has more than one line.
    """
    clock = datetime.fromtimestamp(event.created).isoformat(" ", "milliseconds")
    about = f" {event.id}" if event.id else ""
    return f"{clock} {event.level.upper()} hacd: {event.process}[{event.pid}]{about}: {event.message}"


def as_json(event: Entry) -> str:
    """An object on one line, without `id` and `route` where they are not known."""
    known = {name: value for name, value in event.as_map().items() if value or name not in ("id", "route")}
    return json.dumps(known, ensure_ascii=False)


#: by the values of `log_format`
FORMS = {"text": as_text, "json": as_json}
