"""The `hacd` command: the group, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import click

from hacd import __version__
from hacd.cli import ask, call, daemon, kamailio, options, query, tail
from hacd.errors import (
    BUSY,
    FORBIDDEN,
    STOPPING,
    ConnectionLost,
    HacdError,
    Refused,
    SettingsError,
    Unavailable,
)

# sysexits.h; what curl itself would say has curl's own code
EX_USAGE = 2  # click's and curl's own
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78
CURLE_WRITE_ERROR = 23

#: set by a shell that asks for completions
COMPLETION = "_HACD_COMPLETE"

_REFUSED = {BUSY: EX_TEMPFAIL, STOPPING: EX_TEMPFAIL, FORBIDDEN: EX_NOPERM, "internal": EX_SOFTWARE}


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    import pycurl

    from hacd.loop import version

    libcurl = pycurl.version_info()[1]
    pycurl_version = pycurl.version.split()[0].removeprefix("PycURL/")
    click.echo(f"hacd {__version__} (loop {version()}, libcurl/{libcurl}, pycurl/{pycurl_version})")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Versions, and the loop in use.",
)
def cli() -> None:
    """An HTTP client daemon: programs that must not wait hand it their queries over a Unix socket."""


COMMANDS = (*daemon.COMMANDS, *query.COMMANDS, *call.COMMANDS, *ask.COMMANDS, *kamailio.COMMANDS, *tail.COMMANDS)

for command in COMMANDS:
    cli.add_command(command)


def exit_code(error: HacdError) -> int:
    """What a script is told of an error."""
    if isinstance(error, Refused):
        return _REFUSED.get(error.code, EX_USAGE)
    if isinstance(error, (Unavailable, ConnectionLost)):
        return EX_UNAVAILABLE
    return EX_CONFIG if isinstance(error, SettingsError) else EX_SOFTWARE


def main() -> NoReturn:
    """The entry point. No traceback for what is not hacd's own fault."""
    sys.exit(_run())


def _run() -> int:
    if COMPLETION in os.environ:
        cli.main(prog_name="hacd")
    try:
        # Not `cli.main`: it would make an exit code of its own of a reader that has enough.
        with cli.make_context("hacd", sys.argv[1:]) as context:
            status = int(cli.invoke(context) or 0)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EX_USAGE
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        return _said(f"{where.command_path if where else 'hacd'}: {error.format_message()}", error.exit_code)
    except HacdError as error:
        return _said(f"hacd: {error}", exit_code(error))
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except OSError as error:
        return _unwritable(error)
    return status


def _unwritable(error: OSError) -> int:
    """stdout takes no more. Python would try once more at its end, and complain."""
    sys.stdout = None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE  # who read has enough, which is no error
    return _said(f"hacd: cannot write: {error.strerror}", CURLE_WRITE_ERROR)


def _said(text: str, status: int) -> int:
    click.echo(options.line(text), err=True)
    return status
