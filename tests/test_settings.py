"""One table of parameters: its defaults, its bounds, and what a wrong value is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from hacd import settings
from hacd.errors import SettingsError
from hacd.settings import SECTIONS, Settings, load
from hacd.supervisor import sockets

CONF = Path(__file__).parent.parent / "conf" / "hacd.toml"

#: bytes of a Unix socket's path, without its NUL (unix(7))
SUN_PATH = 107

FIELDS = [(section, field) for section, table in SECTIONS.items() for field in msgspec.structs.fields(table)]
INTEGERS = [(section, field.name) for section, field in FIELDS if get_args(field.type)[0] is int]
TEXTS = [(section, field.name) for section, field in FIELDS if isinstance(field.default, str)]
BY_NAME = {(section, field.name): field for section, field in FIELDS}
LISTS = [(section, field.name) for section, field in FIELDS if isinstance(settings.default(field), tuple)]
TABLES = [(section, field.name) for section, field in FIELDS if isinstance(settings.default(field), dict)]

#: an item of each list
ITEMS = {
    "allow_users": "root",
    "allow_groups": "0",
    "tls_dirs": "/etc",
    "allow": "10.0.0.0/8",
    "deny": "fe80::/10",
    "hosts": "*.example.com:443",
    "ports": "8000-8999",
}


def bounds(section: str, name: str) -> tuple[int, int]:
    """The least and the greatest value of an integer setting."""
    about = settings.meta(BY_NAME[section, name])
    assert isinstance(about.ge, int)
    assert isinstance(about.le, int)
    return about.ge, about.le


def value_of(found: Settings, section: str, name: str) -> Any:
    return getattr(getattr(found, section), name)


def write(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "hacd.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def wrong(path: str | None = None, *assignments: str, **environ: str) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(SettingsError) as caught:
        load(path, assignments, environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- the table


def test_defaults() -> None:
    found = load(None, (), {})
    assert found == Settings()
    manual = found.http_async_client
    assert (manual.workers, manual.connection_timeout, manual.hash_size) == (1, 500, 2048)  # as the manual has them


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        load(None, (), {}).limits.max_body = 1  # type: ignore[misc]


def test_conf_is_the_tables_document() -> None:
    assert CONF.read_text("utf-8") == settings.document()


def test_conf_loads_to_the_defaults() -> None:
    assert load(str(CONF), (), {}) == Settings()


def test_document_is_what_the_module_prints() -> None:
    command = [sys.executable, "-m", "hacd.settings"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == settings.document()


@pytest.mark.parametrize(("section", "name"), BY_NAME)
def test_every_setting_is_explained(section: str, name: str) -> None:
    about = settings.meta(BY_NAME[section, name])
    assert about.description is not None
    assert about.description.endswith(".")
    assert f"# {about.description}\n" in settings.document()


@pytest.mark.parametrize(("section", "name"), BY_NAME)
def test_every_default_is_within_its_own_bounds(section: str, name: str) -> None:
    default = settings.default(BY_NAME[section, name])
    assert settings.check("", section, name, default) == default


# -- where values come from


def test_file_then_environment_then_set(tmp_path: Path) -> None:
    path = write(tmp_path, "[http_async_client]\nworkers = 2\nconnection_timeout = 2\nhash_size = 2\n")
    environ = {"HACD_HTTP_ASYNC_CLIENT__CONNECTION_TIMEOUT": "3", "HACD_HTTP_ASYNC_CLIENT__HASH_SIZE": "3"}
    found = load(path, ["http_async_client.hash_size=4"], environ).http_async_client
    assert (found.workers, found.connection_timeout, found.hash_size) == (2, 3, 4)


def test_last_set_wins() -> None:
    assert load(None, ["workers=2", "http_async_client.workers=3"], {}).http_async_client.workers == 3


@pytest.mark.parametrize(("section", "name"), [row for row in BY_NAME if row not in TABLES])
def test_bare_name(section: str, name: str) -> None:
    default = settings.default(BY_NAME[section, name])
    text = ",".join(default) if isinstance(default, tuple) else default
    found = load(None, [f"{name}={text}"], {})
    assert value_of(found, section, name) == default


@pytest.mark.parametrize("assignment", ["hacd.log_level=debug", " hacd.log_level = debug ", "log_level=debug"])
def test_set_of_text(assignment: str) -> None:
    assert load(None, [assignment], {}).hacd.log_level == "debug"


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("True", True), ("false", False), ("0", False)]
)
def test_set_of_a_switch(text: str, value: bool) -> None:
    assert load(None, [f"log_secrets={text}"], {}).hacd.log_secrets is value
    assert load(None, (), {"HACD_HACD__LOG_SECRETS": text}).hacd.log_secrets is value


@pytest.mark.parametrize("text", ["", "yes", "2"])
def test_set_of_no_switch(text: str) -> None:
    assert wrong(None, f"log_secrets={text}").endswith(f"{text!r} is wrong: true or false would be right")


def test_switch_of_a_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, "[hacd]\nlog_secrets = true\n"), (), {}).hacd.log_secrets is True
    assert "1 is wrong: true or false" in wrong(write(tmp_path, "[hacd]\nlog_secrets = 1\n"))


def test_value_may_hold_an_equals_sign() -> None:
    assert load(None, ["hacd.socket=/run/a=b"], {}).hacd.socket == "/run/a=b"


def test_empty_text() -> None:
    assert load(None, ["hacd.socket="], {"HACD_HACD__SOCKET": "/x"}).hacd.socket == ""


def test_environment_that_is_no_setting() -> None:
    assert load(None, (), {"HACD_SOCKET": "/x", "HACD_LOOP": "uvloop", "HOME": "/", "XHACD_A__B": "1"}) == Settings()


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HACD_HTTP_ASYNC_CLIENT__WORKERS", "7")
    assert load().http_async_client.workers == 7


def test_empty_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, ""), (), {}) == Settings()
    assert load(write(tmp_path, "[limits]\n"), (), {}) == Settings()


# -- bounds


@pytest.mark.parametrize(("section", "name"), INTEGERS)
def test_bounds_are_within(section: str, name: str, tmp_path: Path) -> None:
    for bound in bounds(section, name):
        assert value_of(load(None, [f"{section}.{name}={bound}"], {}), section, name) == bound
        path = write(tmp_path, f"[{section}]\n{name} = {bound}\n")
        assert value_of(load(path, (), {}), section, name) == bound


@pytest.mark.parametrize(("section", "name"), INTEGERS)
def test_below_and_above_the_bounds(section: str, name: str, tmp_path: Path) -> None:
    least, most = bounds(section, name)
    for value in (least - 1, most + 1, -(2**63), 2**63, 10**30):
        path = write(tmp_path, f"[{section}]\n{name} = {value}\n")
        variable = f"HACD_{section}__{name}".upper()
        for message, place in (
            (wrong(path), path),
            (wrong(None, f"{section}.{name}={value}"), f"--set {section}.{name}"),
            (wrong(None, f"{name}={value}"), f"--set {name}"),
            (wrong(None, **{variable: str(value)}), variable),
        ):
            assert message.startswith(f"{place}: {section}.{name}: {value} is wrong: ")
            assert f"an integer from {least} to {most}" in message


@pytest.mark.parametrize(("section", "name"), INTEGERS)
@pytest.mark.parametrize("value", ['"5"', "5.5", "5.0", "true", "[5]", "{a = 5}", "1979-05-27", "nan", '""'])
def test_integer_of_another_type(section: str, name: str, value: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"[{section}]\n{name} = {value}\n")
    message = wrong(path)
    assert message.startswith(f"{path}: {section}.{name}: ")
    assert "an integer from" in message


@pytest.mark.parametrize("text", ["", "x", "5.0", "0x10", "5 ms", "--5", "9" * 5000])
def test_set_of_no_integer(text: str) -> None:
    message = wrong(None, f"workers={text}")
    assert message.startswith("--set workers: http_async_client.workers: ")
    assert "an integer from 1 to 64 would be right" in message


@pytest.mark.parametrize(("section", "name"), TEXTS)
@pytest.mark.parametrize("value", ["5", "true", "1.5", "[]"])
def test_text_of_another_type(section: str, name: str, value: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"[{section}]\n{name} = {value}\n")
    assert wrong(path).startswith(f"{path}: {section}.{name}: ")


@pytest.mark.parametrize(
    ("assignment", "right"),
    [
        ("log_level=loud", '"debug", "info", "warning", "error"'),
        ("log_level=INFO", '"debug", "info", "warning", "error"'),
        ("socket_mode=888", '"0660"'),
        ("socket_mode=66", '"0660"'),
        ("socket_mode=", '"0660"'),
        ("socket_mode=rw-rw----", '"0660"'),
        ("socket_mode=00660", '"0660"'),
        ("hacd.socket=" + "x" * 200, "text of at most"),
    ],
)
def test_text_that_is_wrong(assignment: str, right: str) -> None:
    message = wrong(None, assignment)
    assert message.startswith(f"--set {assignment.partition('=')[0]}: hacd.")
    assert right in message


# -- lists, and tables of them


@pytest.mark.parametrize(("section", "name"), LISTS)
def test_list(section: str, name: str, tmp_path: Path) -> None:
    item = ITEMS[name]
    path = write(tmp_path, f'[{section}]\n{name} = ["{item}", "{item}"]\n')
    assert value_of(load(path, (), {}), section, name) == (item, item)
    assert value_of(load(None, [f"{section}.{name}= {item} ,{item}"], {}), section, name) == (item, item)
    variable = f"HACD_{section}__{name}".upper()
    assert value_of(load(path, (), {variable: item}), section, name) == (item,)
    assert value_of(load(path, (), {variable: " "}), section, name) == ()
    assert value_of(load(path, [f"{name}="], {}), section, name) == ()


@pytest.mark.parametrize(("section", "name"), LISTS)
@pytest.mark.parametrize("value", ["5", '"0"', "[[]]", "[true]", "[0.5]", "{}", '[""]', '["\\u0000"]', "[-1]"])
def test_no_list(section: str, name: str, value: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"[{section}]\n{name} = {value}\n")
    message = wrong(path)
    assert message.startswith(f"{path}: {section}.{name}: ")
    assert message.endswith(" would be right")


@pytest.mark.parametrize(("section", "name"), LISTS)
def test_a_list_has_an_end(section: str, name: str) -> None:
    most = settings.meta(BY_NAME[section, name]).max_length
    assert most is not None
    assert len(settings.check("", section, name, [ITEMS[name]] * most)) == most
    assert f"a list of at most {most}" in wrong(None, f"{name}={','.join([ITEMS[name]] * (most + 1))}")


@pytest.mark.parametrize(
    ("assignment", "wrong_is"),
    [
        ("allow_users=root,no-such-one", "'no-such-one' is wrong: no such user; the name or number of a user"),
        ("allow_users=4294967295", "'4294967295' is wrong: no such user"),
        ("allow_groups=no-such-one", "'no-such-one' is wrong: no such group; the name or number of a group"),
        ("tls_dirs=etc", "'etc' is wrong: no absolute path"),
        ("allow=10.0.0.1/8", "bits are set behind its prefix, is 10.0.0.0/8 meant?; a network such as"),
        ("deny=10.0.0.0/33", "no network"),
        ("hosts=a*.com", "no pattern"),
        ("hosts=grün.example", "their form in DNS (xn--…) is compared"),
        ("hosts=" + "x" * 300, "too long"),
        ("ports=0", "no port; a port or a range"),
        ("ports=9-8", "no port"),
        ("ports=65536", "no port"),
    ],
)
def test_item_that_is_wrong(assignment: str, wrong_is: str) -> None:
    message = wrong(None, assignment)
    assert wrong_is in message
    assert message.endswith(" would be right")


def test_numbers_in_a_list(tmp_path: Path) -> None:
    found = load(write(tmp_path, "[hacd]\nallow_users = [0]\n[egress]\nports = [80, 443]\n"), (), {})
    assert (found.hacd.allow_users, found.egress.ports) == (("0",), ("80", "443"))


@pytest.mark.parametrize(("section", "name"), TABLES)
def test_tables_of_lists(section: str, name: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"[{section}.{name}.root]\ndeny = []\nports = [80]\n[{section}.{name}.1]\n")
    assert value_of(load(path, (), {}), section, name) == {"root": {"deny": (), "ports": ("80",)}, "1": {}}


@pytest.mark.parametrize(("section", "name"), TABLES)
@pytest.mark.parametrize(
    ("text", "wrong_is"),
    [
        ("[{0}]\n{1} = 5\n", "{0}.{1}: 5 is wrong: at most 64 tables [{0}.{1}.NAME] with"),
        ("[{0}.{1}]\nroot = []\n", "{0}.{1}: {{'root': []}} is wrong: at most 64 tables"),
        ("[{0}.{1}.no-such-one]\n", "{0}.{1}.'no-such-one': no such "),
        ("[{0}.{1}.root]\ndenny = []\n", "{0}.{1}.root.denny: no such setting; did you mean deny?"),
        ("[{0}.{1}.root]\nusers = []\n", "{0}.{1}.root.users: no such setting"),
        ('[{0}.{1}.root]\nports = ["x"]\n', "{0}.{1}.root.ports: 'x' is wrong: no port"),
        ("".join(f"[{{0}}.{{1}}.{number}]\n" for number in range(65)), "at most 64 tables"),
    ],
)
def test_tables_that_are_wrong(section: str, name: str, text: str, wrong_is: str, tmp_path: Path) -> None:
    path = write(tmp_path, text.format(section, name))
    message = wrong(path)
    assert message.startswith(f"{path}: {section}.{name}")
    assert wrong_is.format(section, name) in message


@pytest.mark.parametrize(("section", "name"), TABLES)
def test_tables_stand_in_a_file(section: str, name: str) -> None:
    assert f"at most 64 tables [{section}.{name}.NAME]" in wrong(None, f"{name}=x")


def test_settings_are_bounded_in_all(tmp_path: Path) -> None:
    hosts = ", ".join(f'"{"x" * 250}.{number}"' for number in range(256))
    message = wrong(write(tmp_path, f"[egress]\nhosts = [{hosts}]\n"))
    assert "all settings together have " in message
    assert "at most 65527 would be right" in message


@pytest.mark.parametrize("mode", ["0660", "660", "0600", "0777"])
def test_socket_mode(mode: str) -> None:
    assert load(None, [f"socket_mode={mode}"], {}).hacd.socket_mode == mode


def test_longest_socket_path_can_be_bound() -> None:
    """The workers' socket has that path and a suffix."""
    longest = settings.meta(BY_NAME["hacd", "socket"]).max_length
    assert longest is not None
    assert longest + len(sockets.INTERNAL) <= SUN_PATH


# -- names


def test_no_such_section(tmp_path: Path) -> None:
    path = write(tmp_path, "[limit]\nmax_body = 5\n")
    assert wrong(path) == f"{path}: [limit]: no such section; did you mean limits?"
    assert "no such section 'limit'; did you mean limits?" in wrong(None, "limit.max_body=5")
    message = wrong(None, HACD_LIMIT__MAX_BODY="5")
    assert message.startswith("HACD_LIMIT__MAX_BODY: ")
    assert "did you mean limits?" in message


def test_no_such_section_and_none_near(tmp_path: Path) -> None:
    message = wrong(write(tmp_path, "[xyzzy]\n"))
    assert all(section in message for section in SECTIONS)


@pytest.mark.parametrize("name", ["HACD_", "HACD_WORKERS", "HACD_HTTP_ASYNC_CLIENT", "HACD__", "HACD_SOCKETS"])
def test_environment_without_a_section(name: str) -> None:
    assert wrong(None, **{name: "1"}).startswith(f"{name}: ")


def test_no_such_setting(tmp_path: Path) -> None:
    path = write(tmp_path, "[http_async_client]\nworker = 5\n")
    assert wrong(path) == f"{path}: http_async_client.worker: no such setting; did you mean workers?"
    assert wrong(None, "http_async_client.worker=5").endswith("no such setting; did you mean workers?")
    assert wrong(None, "worker=5") == "--set worker: no such setting; did you mean workers?"
    assert "did you mean workers?" in wrong(None, HACD_HTTP_ASYNC_CLIENT__WORKER="5")


def test_no_such_setting_and_none_near() -> None:
    message = wrong(None, "xyzzy=5")
    assert all(name in message for _, name in BY_NAME)


def test_setting_of_another_section(tmp_path: Path) -> None:
    message = "no such setting; did you mean http_async_client.workers?"
    assert wrong(None, "limits.workers=5") == f"--set limits.workers: limits.workers: {message}"
    path = write(tmp_path, "[hacd]\nmax_body = 5\n")
    assert wrong(path) == f"{path}: hacd.max_body: no such setting; did you mean limits.max_body?"


def test_setting_above_all_sections(tmp_path: Path) -> None:
    path = write(tmp_path, "workers = 5\n")
    assert wrong(path) == f"{path}: workers: it stands in no section: below [http_async_client] would be right"


@pytest.mark.parametrize("name", ["HACD_LIMITS_MAX_BODY", "HACD_MAX_BODY", "HACD_LIMITS__MAX_BODI"])
def test_variable_that_is_none_of_hacds(name: str) -> None:
    message = wrong(None, **{name: "1"})
    assert message.startswith(f"{name}: ")
    assert message.endswith(("did you mean HACD_LIMITS__MAX_BODY?", "did you mean max_body?"))


@pytest.mark.parametrize("assignment", ["workers", "http_async_client.workers", ""])
def test_set_without_a_value(assignment: str) -> None:
    message = wrong(None, assignment)
    assert message.startswith(f"--set {assignment}: ")
    assert "section.name=value would be right" in message


# -- files


def test_section_that_is_no_table(tmp_path: Path) -> None:
    for text in ("limits = 5\n", 'limits = "x"\n', "[[limits]]\nmax_body = 5\n"):
        path = write(tmp_path, text)
        assert wrong(path) == f"{path}: limits: a table is needed: [limits] would be right"


def test_setting_outside_a_section(tmp_path: Path) -> None:
    path = write(tmp_path, "workers = 5\n")
    assert wrong(path).startswith(f"{path}: ")


def test_bad_toml_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "[limits]\n\nmax_body 5\n")
    message = wrong(path)
    assert message.startswith(f"{path}: not TOML: ")
    assert "line 3" in message


def test_setting_that_stands_twice(tmp_path: Path) -> None:
    message = wrong(write(tmp_path, "[limits]\nmax_body = 5\nmax_body = 6\n"))
    assert "line 3" in message


def test_integer_that_python_will_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, f"[limits]\nmax_body = {'9' * 5000}\n")
    assert wrong(path).startswith(f"{path}: ")


def test_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, b"[hacd]\n# gr\xfcn\n")
    assert wrong(path) == f"{path}: byte 11 is not UTF-8; TOML is"


def test_missing_file(tmp_path: Path) -> None:
    path = str(tmp_path / "none.toml")
    assert wrong(path) == f"{path}: No such file or directory"
    assert wrong(str(tmp_path)) == f"{tmp_path}: Is a directory"


# -- through the command


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    "text",
    [
        "[limits]\nmax_body = 0\n",
        "[limit]\n",
        "limits = 5\n",
        "no toml\n",
        b"\xff",
        None,
        '["two\\nlines"]\n',
        f"[limits]\nmax_body = {'9' * 5000}\n",
    ],
)
def test_exit_code_and_one_line(command: str, text: str | bytes | None, tmp_path: Path) -> None:
    path = str(tmp_path / "none.toml") if text is None else write(tmp_path, text)
    found = subprocess.run([sys.executable, "-m", "hacd", command, "-c", path], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (78, "")
    [line] = found.stderr.splitlines()
    assert line.startswith(f"hacd: {path}: ")


def test_what_is_wrong_of_a_file_names_the_place_of_its_setting(tmp_path: Path) -> None:
    """The values are ones, and what they name is not there: that is found when all settings were read."""
    path = write(tmp_path, '[hacd]\nlog_target = "/no/such/log"\n')
    name = "hacd.log_target: '/no/such/log' is wrong: there is no directory /no/such"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("HACD_")}
    told = said(("check", "-c", path), environ)
    assert told.startswith(f"hacd: {path}: {name}")
    variable = "HACD_HACD__LOG_TARGET"
    told = said(("check", "-c", path), {**environ, variable: "/no/such/log"})
    assert told.startswith(f"hacd: {variable}: {name}")
    socket = str(tmp_path / "hacd.sock")
    told = said(("run", "--socket", socket, "--set", "tls_ca_path=/no/such/directory"), environ)
    assert told.startswith("hacd: --set tls_ca_path: http_async_client.tls_ca_path: '/no/such/directory' is wrong: ")
    told = said(("run", "--socket", socket, "-c", path), environ)
    assert told.startswith(f"hacd: {path}: hacd.log_target: '/no/such/log' is wrong: No such file")


def said(arguments: tuple[str, ...], environ: dict[str, str]) -> str:
    """The one line of a command that finds its settings wrong."""
    words = [sys.executable, "-m", "hacd", *arguments]
    found = subprocess.run(words, capture_output=True, text=True, env=environ)
    assert (found.returncode, found.stdout) == (78, "")
    [line] = found.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "arguments", [("--set", "workers=0"), ("--set", "workers"), ("--set", "x=1"), ("--socket", "/" + "x" * 200)]
)
def test_exit_code_of_run(arguments: tuple[str, ...]) -> None:
    found = subprocess.run([sys.executable, "-m", "hacd", "run", *arguments], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (78, "")
    [line] = found.stderr.splitlines()
    assert line.startswith("hacd: --s")
