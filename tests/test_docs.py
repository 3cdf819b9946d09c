"""The docs say what the tables say: every setting, every key, every method, every command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import FieldInfo, fields

import hacd
from hacd import settings
from hacd.cli.main import cli
from hacd.expansion import EXPANDED_MAX, VALUE_MAX, VARS_MAX
from hacd.front.methods import NAMES
from hacd.pseudovars import NAME_MAX, PLACES_MAX, TRANSFORMATIONS, TRANSFORMATIONS_MAX
from hacd.pseudovars import NAMES as VARIABLES
from hacd.query import KEYS, Key
from tests.conftest import StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import answer

ROOT = Path(__file__).parent.parent
PARAMETERS = (ROOT / "docs" / "parameters.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
PARITY = (ROOT / "docs" / "parity.md").read_text()

SETTINGS = [(section, field) for section, table in settings.SECTIONS.items() for field in fields(table)]


@pytest.mark.parametrize(("section", "field"), SETTINGS, ids=[f"{section}.{field.name}" for section, field in SETTINGS])
def test_every_setting_has_its_row(section: str, field: FieldInfo) -> None:
    default = settings.literal(settings.default(field))
    values = settings.right(field).removeprefix("an integer from ").rstrip(",")
    live = "yes" if settings.is_live(field) else "no"
    row = f"| `{field.name}` | `{default}` | {values} | {live} | {settings.meta(field).description} |"
    assert row in PARAMETERS.split(f"### [{section}]")[1].split("###")[0]


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_key_has_its_row(key: Key) -> None:
    row = f"| `{key.name}` | "
    (line,) = [line for line in PARAMETERS.split("## Options of a query")[1].splitlines() if line.startswith(row)]
    assert key.text in line


@pytest.mark.parametrize("name", [*(f"${name}" for name in VARIABLES), *(f"{{{name}}}" for name in TRANSFORMATIONS)])
def test_every_pseudo_variable_is_in_its_page_and_in_parity(name: str) -> None:
    assert name in (ROOT / "docs" / "pseudovars.md").read_text()
    assert name in PARITY


def test_bounds_of_pseudo_variables_are_in_their_page() -> None:
    bounds = (PLACES_MAX, NAME_MAX, TRANSFORMATIONS_MAX, VARS_MAX, VALUE_MAX, EXPANDED_MAX)
    text = (ROOT / "docs" / "pseudovars.md").read_text()
    assert [bound for bound in bounds if f" {bound}" not in text] == []


@pytest.mark.parametrize("method", NAMES)
def test_every_method_has_its_row(method: str) -> None:
    assert f"\n| `{method}` | " in PROTOCOL


@pytest.mark.parametrize(
    "name", [*(field.name for field in fields(settings.HttpAsyncClient)), *sorted(set(KEYS) - {"route"})]
)
def test_parity_names_it(name: str) -> None:
    assert f"`{name}`" in PARITY


def test_every_command_is_in_the_operations_page() -> None:
    text = (ROOT / "docs" / "operations.md").read_text() + PARAMETERS
    assert [name for name in cli.commands if f"hacd {name}" not in text] == []


def test_the_changelog_has_this_version() -> None:
    assert f"## [{hacd.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("path", sorted(ROOT.glob("hacd/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_room_is_in_the_architecture(path: Path) -> None:
    name = str(path.relative_to(ROOT / "hacd"))
    if path.read_text().count("\n") > 8:  # what only says what the folder is for needs no row
        assert f"`{name}`" in (ROOT / "docs" / "architecture.md").read_text()


def test_the_tests_that_parity_names_are_there() -> None:
    named = sorted(set(re.findall(r"(test_\w+\.py)::(test_\w+)", PARITY)))
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.M)
    ]
    assert len(named) > 50
    assert missing == []


def test_example_in_php(daemon: Daemon, start_origin: StartOrigin) -> None:
    php = shutil.which("php")
    if php is None or b"msgpack" not in subprocess.run([php, "-m"], capture_output=True, check=True).stdout.split():
        pytest.skip("there is no PHP with msgpack here")
    origin = start_origin(answer)
    command = [php, str(ROOT / "docs" / "examples" / "query.php")]

    def said(url: str, path: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "HACD_SOCKET": path}
        return subprocess.run([*command, url], capture_output=True, text=True, env=environ, timeout=60)

    done = said(origin.url, daemon.socket)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["HTTP_REPLY", "200"])
    assert said("ftp://x/", daemon.socket).returncode == 2
    assert said(origin.url, daemon.socket + ".none").returncode == 69
