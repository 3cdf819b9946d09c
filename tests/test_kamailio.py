"""`hacd import-kamailio`: what stands in a Kamailio configuration, as hacd's settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hacd.cli.kamailio import convert, without_comments
from hacd.errors import SettingsError
from hacd.settings import load

CONFIG = r"""
#!KAMAILIO
#!define WITH_HTTP
loadmodule "http_async_client.so"
modparam("http_async_client", "workers", 2)
modparam('http_async_client', 'connection_timeout', 1000)
# modparam("http_async_client", "workers", 9)
// modparam("http_async_client", "workers", 10)
/* modparam("http_async_client", "workers", 11)
   modparam("http_async_client", "hash_size", 12) */
modparam("http_async_client|http_client", "tls_version",
    6)   # a comment with a " in it
modparam("htable", "htable", "a=>size=8; # no comment; // neither")
modparam("http_async_client", "tls_ca_path", "/etc/kamailio/ssl/ca/")
modparam("http_async_client", "no_such", 1)
modparam("http_async_client", "hash_size", $def(SIZE))
modparam("http_client", "connection_timeout", 4)
request_route { http_async_query("http://example.com/?a=#b", "R"); }
"""


def test_every_kind_of_line() -> None:
    assert list(convert("kamailio.cfg", CONFIG)) == [
        "[http_async_client]",
        "# no_such  # line 15: hacd has no such setting",
        "# hash_size = $def(SIZE)  # line 16: neither a number nor text in quotes",
        "workers = 2",
        "connection_timeout = 1000",
        "tls_version = 6",
        'tls_ca_path = "/etc/kamailio/ssl/ca/"',
    ]


def test_the_last_of_several_values_holds() -> None:
    text = """
#!ifdef BIG
modparam("http_async_client", "workers", 8)
#!else
modparam("http_async_client", "workers", 2)
#!endif
modparam("http_async_client", "no
such", 2)
"""
    assert list(convert("x", text)) == [
        "[http_async_client]",
        "# workers = 8  # line 3: line 5 has another",
        "# no such  # line 7: hacd has no such setting",
        "workers = 2",
    ]


def test_what_is_printed_can_be_loaded(tmp_path: Path) -> None:
    config = tmp_path / "kamailio.cfg"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "hacd", "import-kamailio", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "hacd.toml").write_text(done.stdout)
    loaded = load(str(tmp_path / "hacd.toml"), environ={}).http_async_client
    assert (loaded.workers, loaded.connection_timeout, loaded.tls_version) == (2, 1000, 6)
    assert loaded.tls_ca_path == "/etc/kamailio/ssl/ca/"


def test_a_value_that_is_refused_names_its_line() -> None:
    with pytest.raises(SettingsError, match=r"^a\.cfg, line 3: http_async_client\.workers: 0 is wrong: an integer"):
        list(convert("a.cfg", '\n\nmodparam("http_async_client", "workers", 0)\n'))


def test_a_file_that_is_not_there() -> None:
    command = [sys.executable, "-m", "hacd", "import-kamailio", "/no/such.cfg"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "hacd: /no/such.cfg: No such file or directory\n"


@settings(deadline=None, derandomize=True)
@given(st.text(alphabet='modpar("http_async_client", workers, 1)#/*\n\\'))
def test_any_text_is_read(text: str) -> None:
    blanked = without_comments(text)
    assert len(blanked) == len(text)
    assert blanked.count("\n") == text.count("\n")
    assert next(convert("x", text)) == "[http_async_client]"
