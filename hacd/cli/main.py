"""The `hacd` command: the group, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from hacd import __version__
from hacd.cli import ask, daemon, query
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


for command in (*daemon.COMMANDS, *query.COMMANDS, *ask.COMMANDS):
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
    try:
        status = cli.main(standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = EX_USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        status = _said(f"{context.command_path if context else 'hacd'}: {error.format_message()}", error.exit_code)
    except HacdError as error:
        status = _said(f"hacd: {error}", exit_code(error))
    except (click.exceptions.Abort, KeyboardInterrupt):
        status = 130
    except BrokenPipeError:
        # Who read has enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)


def _said(text: str, status: int) -> int:
    click.echo(" ".join(text.split()), err=True)
    return status
