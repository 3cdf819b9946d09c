"""The contenders, as one table. Their modules are loaded in their own processes alone."""

from __future__ import annotations

from dataclasses import dataclass

MANY, ONE = "many", "one"


@dataclass(frozen=True)
class Contender:
    """`home` is a module of this package and a function in it: a context manager that takes a
    Job and gives a Run. `group`: MANY (some in flight) or ONE at a time. `daemon`: it is hacd."""

    name: str
    label: str
    home: str
    group: str
    daemon: bool = False


# In the order of a round, so that hacd and what it is compared with run close together.
CONTENDERS = (
    Contender("hacd-many", "hacd query_many", "hacd_blocking:many", MANY, daemon=True),
    Contender("aiohttp", "aiohttp", "aiohttp_session:session", MANY),
    Contender("hacd-async", "hacd AsyncClient", "hacd_asyncio:tasks", MANY, daemon=True),
    Contender("bare", "bare CurlMulti", "bare_multi:multi", MANY),
    Contender("hacd-one", "hacd Client", "hacd_blocking:one", ONE, daemon=True),
    Contender("aiohttp-one", "aiohttp", "aiohttp_session:session", ONE),
    Contender("perform-one", "bare perform", "bare_easy:perform", ONE),
    Contender("bare-one", "bare CurlMulti", "bare_multi:multi", ONE),
)

BY_NAME = {contender.name: contender for contender in CONTENDERS}
