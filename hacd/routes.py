"""What a file of routes imports: `from hacd.routes import route`.

    @route("REQUEST")
    def request(tx):
        return tx.http_async_query("http://127.0.0.1:8080/test.php?r_uri=$rU", "HTTP_REPLY")

The daemon reads the file that the setting `routes` names. Loaded otherwise, as by a test of its own,
`@route` leaves the function as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from hacd.reply import Reply

__all__ = ["Tx", "escape", "route"]


class Tx(Protocol):
    """A transaction as a route sees it. All texts that are sent or logged may hold pseudo variables.

    Texts are templates, bytes are data: `$` means nothing in them. `escape` makes data of text.
    """

    #: what `run` was given, by name (`$name`); a route may change it, and routes to come see that
    vars: dict[str, Any]

    @property
    def http_reply(self) -> Reply | None:
        """The reply in which this route resumes, or the one awaited last; None in the route that `run` entered."""

    @property
    def transactional(self) -> bool:
        """Whether `http_async_query` can suspend: not where a reply came that nothing was suspended for."""

    @property
    def http_req(self) -> MutableMapping[str, Any]:
        """The manual's `$http_req(key)`: options of the next query; `["all"] = None` resets them."""

    def http_async_query(self, url: str, route: str) -> int:
        """Send a query, and suspend until it comes back in that route.

        0: suspended; 1: sent, and not suspended (`http_req["suspend"] = 0`); -1: refused, `$http_err` says why.
        """

    def http_async_send(self, url: str, route: str) -> int:
        """Send a query that does not suspend: 1, or -1. Its reply comes to that route, in a transaction of its own."""

    def http_async_send_xdata(self, url: str, route: str, xdata: Any) -> int:
        """The same; `xdata` comes back with the reply (`$http_xdata`)."""

    def query(self, url: str, route: str = "", **options: Any) -> Awaitable[Reply]:
        """In an `async def` route: send a query now, and await its reply. Raises Refused."""

    def gather(self, *awaitables: Any) -> Awaitable[list[Any]]:
        """Await several at once; their results in the order given. Raises the first error, when all have ended."""

    def pv(self, text: str) -> Any:
        """The value of a pseudo variable, as `pv("$http_rs")`; None for null."""

    def log(self, text: str, level: str = "info") -> None:
        """A line for the log."""

    def reply(self, value: Any) -> int:
        """End the caller's `run` with this. 1; -1 if it has ended, or nobody called."""


Route = Callable[[Any], Any]
F = TypeVar("F", bound=Route)

#: where `route` puts what it decorates, while a file of routes is loaded
_taken: list[tuple[str, Route]] | None = None


def route(name: str) -> Callable[[F], F]:
    """Decorator: the function is the daemon's route of that name. It takes the transaction."""

    def decorate(function: F) -> F:
        if _taken is not None:
            _taken.append((name, function))
        return function

    return decorate


@contextmanager
def taking() -> Iterator[list[tuple[str, Route]]]:
    """For who loads a file of routes: the names and functions that it decorates, in order."""
    global _taken
    before, _taken = _taken, []
    try:
        yield _taken
    finally:
        _taken = before


def escape(text: str) -> str:
    """Text that stands for itself where pseudo variables are expanded: each `$` is doubled."""
    return text.replace("$", "$$")


#: the daemon's routes, by name
Table = Mapping[str, Route]
