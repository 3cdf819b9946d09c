"""Files of routes for the daemon."""

from __future__ import annotations

import textwrap
from pathlib import Path

HEAD = "from hacd.routes import route\nimport json\n"


def write_routes(directory: Path, text: str, origin: str = "") -> Path:
    """A file with these routes; ORIGIN in the text stands for an origin's URL."""
    file = directory / "routes.py"
    file.write_text(HEAD + textwrap.dedent(text).replace("ORIGIN", origin))
    return file
