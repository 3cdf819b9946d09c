"""What a comparison may need that is not everywhere. Each says in one line what is missing, and "" where nothing is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.util import find_spec

import pycurl

#: of curl_version_info, in `features`
_HTTP2 = 1 << 16


def module(*names: str) -> Callable[[], str]:
    """Modules of the `bench` extra."""

    def need() -> str:
        absent = [name for name in names if find_spec(name) is None]
        return f"no {' and no '.join(absent)} here: pip install 'hacd[bench]'" if absent else ""

    return need


def openssl() -> str:
    """The command, which makes the origin's certificate."""
    return "" if shutil.which("openssl") else "no openssl here to make a certificate with"


def http2() -> str:
    """libcurl with HTTP/2."""
    return "" if pycurl.version_info()[4] & _HTTP2 else f"libcurl {pycurl.version_info()[1]} has no HTTP/2"
