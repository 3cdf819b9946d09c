"""Which files a caller may name: those of the `tls_*` keys, and nothing else that he says is taken for a file.

Law: what is judged is what is read. A path is resolved, with its symbolic links, and it is the resolved one that
libcurl gets: so who may not write under `tls_dirs` cannot change afterwards where it leads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

#: where they have to lie; () for anywhere. The front's, since it is the front that judges.
_dirs: tuple[str, ...] = ()


def confine(dirs: Sequence[str]) -> None:
    """From now on, files lie under one of these directories."""
    global _dirs
    _dirs = tuple(dirs)


def readable(path: str, directory: bool) -> bool:
    """Whether there is a file, or a directory, that this process may read."""
    return os.access(path, os.R_OK) and os.path.isdir(path) == directory


def resolve(path: str) -> str | None:
    """The path to read; None for one that lies elsewhere. `path` is absolute."""
    if not _dirs:
        return path
    real = os.path.realpath(path)
    for directory in map(os.path.realpath, _dirs):
        if real == directory or real.startswith(directory.rstrip("/") + "/"):
            return real
    return None
