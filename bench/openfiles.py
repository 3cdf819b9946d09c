"""The limit of open files, as high as this user may have it: some comparisons open thousands of sockets."""

from __future__ import annotations

import resource


def raise_limit() -> int:
    """Raise the soft limit to the hard one; what it is now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
