"""What of the bounds one front has, where there are several.

Law: together they hold what is set. Each has as much as the others, rounded down and at least 1; what one does not use
is not another's.
"""

from __future__ import annotations

import msgspec

from hacd.settings.table import Limits, Settings

#: of `[limits]`, those that hold for all fronts together; 0, where it may be set, is no bound
IN_ALL = (
    "max_transactions",
    "max_user_transactions",
    "max_clients",
    "max_user_clients",
    "max_memory",
    "max_host_connections",
)


def share(settings: Settings) -> Limits:
    """The limits as one front keeps them; with one, they are as they are set."""
    limits, fronts = settings.limits, settings.hacd.fronts
    if fronts == 1:
        return limits
    whole = {name: getattr(limits, name) for name in IN_ALL}
    shares = {name: max(1, value // fronts) if value else 0 for name, value in whole.items()}
    return msgspec.structs.replace(limits, **shares)
