"""`hacd query`, which speaks like curl."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from hacd.cli import options

if TYPE_CHECKING:
    from hacd.reply import Reply

#: curl's code for a status of 400 or more with --fail
HTTP_RETURNED_ERROR = 22


#: options that are a query's keys as they stand
_FILES = ("tls_client_cert", "tls_client_key", "tls_ca_path")
_KEYS = ("method", "timeout", "xdata", "authmethod", *_FILES, "follow_redirect", "http_version", "verbose")


@click.command(short_help="Send a query, and print the reply's body.")
@click.argument("url")
@click.option("-X", "--method", metavar="TOKEN", help="Default: GET, or POST where there is a body.")
@click.option("-H", "--hdr", multiple=True, metavar="'NAME: VALUE'", help="Add a header; repeatable.")
@click.option("-d", "--body", metavar="DATA|@FILE|@-", help="The request's body; @ reads it from a file or from stdin.")
@click.option(
    "--timeout", type=click.IntRange(1, 86_400_000), metavar="MS", help="Default: the daemon's connection_timeout."
)
@click.option("--user", "login", metavar="NAME:PASSWORD", help="Log in as NAME.")
@click.option(
    "--authmethod", type=click.IntRange(1, 31), metavar="N", help="1 Basic, 2 Digest, 4 Negotiate, 8 NTLM: a sum."
)
@click.option("--tls-client-cert", metavar="FILE", help="Client certificate, PEM.")
@click.option("--tls-client-key", metavar="FILE", help="Its key, PEM.")
@click.option("--tls-ca-path", metavar="DIRECTORY", help="Authorities to trust, hashed.")
@click.option("--follow", "follow_redirect", is_flag=True, default=None, help="Follow redirects.")
@click.option(
    "--http-version", type=click.IntRange(0, 3), metavar="N", help="0 libcurl's choice, 1 or 2 HTTP/2, 3 HTTP/3."
)
@click.option("--route", default="", metavar="NAME", help="The route that the reply names.")
@click.option("--no-suspend", is_flag=True, help="Do not wait: print the query's id.")
@click.option("--xdata", metavar="TEXT", help="Comes back with the reply.")
@options.variables("Expand $NAME in URL, headers and body; repeatable.")
@click.option("-v", "--verbose", is_flag=True, default=None, help="Have the daemon log what libcurl says of it.")
@click.option("-i", "--include", is_flag=True, help="Print the header block before the body.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE in place of stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole reply as JSON.")
@click.option("--fail", is_flag=True, help="Exit with 22, and print no body, for a status of 400 or more.")
@options.socket
def query(
    url: str, path: str | None, route: str, no_suspend: bool, body: str | None, hdr: tuple[str, ...], **given: Any
) -> int:
    """Send a query through the daemon, and print the reply's body.

    The exit code is curl's: 0, 6 (no such host), 7 (refused), 28 (timeout), …; 69 when no daemon answers.
    """
    from hacd.client.blocking import Client

    keys = {name: given[name] for name in _KEYS if given[name] is not None}
    for name in _FILES:
        if name in keys:
            keys[name] = os.path.abspath(keys[name])
    for name in ("follow_redirect", "verbose"):
        if name in keys:
            keys[name] = int(keys[name])
    if given["login"] is not None:
        keys["username"], _, keys["password"] = given["login"].partition(":")
    if given["variables"] is not None:
        keys["vars"] = given["variables"]
    if hdr:
        keys["hdr"] = list(hdr)
    if body is not None:
        keys["body"] = _body(body)
    with Client(path) as client:
        if no_suspend:
            click.echo(client.send(url, route, **keys))
            return 0
        reply = client.query(url, route, **keys)
    return _print(reply, given["include"], given["output"], given["as_json"], given["fail"])


def _body(data: str) -> bytes:
    if data == "@-":
        if sys.stdin is None:
            raise click.BadParameter("stdin is closed", param_hint="--body")
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode(errors="surrogateescape")
    try:
        with open(data[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise click.BadParameter(f"{data[1:]}: {error.strerror}", param_hint="--body") from None


def _print(reply: Reply, include: bool, output: str | None, as_json: bool, fail: bool) -> int:
    failed = fail and reply.rs >= 400
    if as_json:
        data = options.as_json(printable(reply)).encode() + b"\n"
    else:
        data = (reply.head if include else b"") + (b"" if failed else reply.rb)
    _write(data, output)
    if not reply.ok:
        click.echo(options.line(f"hacd query: ({reply.code}) {reply.err}"), err=True)
        return reply.code
    if failed:
        click.echo(options.line(f"hacd query: ({HTTP_RETURNED_ERROR}) the origin said {reply.rs} {reply.rr}"), err=True)
        return HTTP_RETURNED_ERROR
    return 0


def _write(data: bytes, output: str | None) -> None:
    if output is None:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with open(output, "wb") as file:
            file.write(data)
    except OSError as error:
        raise OSError(error.errno, f"{output}: {error.strerror}") from None


def printable(reply: Reply) -> dict[str, Any]:
    """The reply as JSON can hold it: bytes as text, or in base64 where they are no UTF-8."""
    import base64

    members = reply.as_map()
    for name in ("head", "rb"):
        value = members[name]
        try:
            members[name] = value.decode()
        except UnicodeDecodeError:
            members[name] = None
            members[f"{name}_base64"] = base64.b64encode(value).decode()
    return members


COMMANDS = (query,)
