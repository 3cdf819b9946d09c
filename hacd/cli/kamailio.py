"""`hacd import-kamailio`: the settings of Kamailio's module, as hacd's."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

MODULE = "http_async_client"

# What a configuration's text is made of, as far as it matters here: strings and comments hide
# whatever stands in them. A `#!` line is the preprocessor's, and no modparam.
_TOKENS = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<comment>/\*.*?\*/|//[^\n]*|\#[^\n]*)|(?P<other>.)""", re.S
)
_MODPARAM = re.compile(
    r"""\bmodparam(?:x)?\s*\(\s*(?P<q>["'])(?P<modules>[^"']*)(?P=q)\s*,\s*(?P<r>["'])(?P<name>[^"']*)(?P=r)\s*,\s*
        (?:(?P<number>-?\d+)|(?P<s>["'])(?P<text>(?:\\.|(?!(?P=s)).)*)(?P=s)|(?P<other>(?:[^()]|\([^()]*\))*?))\s*\)""",
    re.X | re.S,
)


@click.command("import-kamailio", short_help="Print settings for those of a Kamailio configuration.")
@click.argument("file", metavar="KAMAILIO.CFG")
def import_kamailio(file: str) -> None:
    """Print hacd's settings for the modparam("http_async_client", …) lines of a Kamailio configuration.

    Files that it includes are not read. What hacd has no setting for is printed as a comment.
    """
    from hacd.errors import SettingsError

    try:
        with open(file, encoding="utf-8", errors="surrogateescape") as config:
            text = config.read()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from None
    click.echo("\n".join(convert(file, text)))


def convert(file: str, text: str) -> Iterator[str]:
    """The lines of a TOML file. Raises SettingsError for a value that hacd refuses, with its line.

    As in Kamailio, the last of several values holds. What `#!ifdef` would leave out is not known here.
    """
    from hacd import settings

    yield f"[{MODULE}]"
    values: dict[str, tuple[int, str]] = {}
    for match in _MODPARAM.finditer(without_comments(text)):
        if MODULE not in match["modules"].split("|"):
            continue
        name = " ".join(match["name"].split())
        line = text.count("\n", 0, match.start()) + 1
        if match["other"] is not None:
            yield f"# {name} = {' '.join(match['other'].split())}  # line {line}: neither a number nor text in quotes"
        elif name not in settings.names(MODULE):
            yield f"# {name}  # line {line}: hacd has no such setting"
        else:
            value = int(match["number"]) if match["number"] else re.sub(r"\\(.)", r"\1", match["text"])
            settings.check(f"{file}, line {line}: ", MODULE, name, value)
            if name in values:
                yield f"# {name} = {values[name][1]}  # line {values[name][0]}: line {line} has another"
            values[name] = (line, str(value) if isinstance(value, int) else settings.quoted(value))
    for name, (_, shown) in values.items():
        yield f"{name} = {shown}"


def without_comments(text: str) -> str:
    """The text with each comment blanked out, so that places in it stay what they were."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0]) if match.lastgroup == "comment" else match[0]

    return _TOKENS.sub(blank, text)


COMMANDS = (import_kamailio,)
