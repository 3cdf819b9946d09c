"""The manual's `$http_req(key)`: what a route sets before it sends a query."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any


class HttpReq(MutableMapping[str, Any]):
    """Options of the next query. What is set here is judged when it is sent, and gone afterwards.

    `["hdr"]` adds a header each time (a list: several); None removes what a key was set to, and
    `["all"] = None` all of it.
    """

    def __init__(self) -> None:
        self._options: dict[str, Any] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        if value is None:
            if key == "all":
                self._options.clear()
            self._options.pop(key, None)
        elif key == "hdr":
            lines = value if isinstance(value, list | tuple) else [value]
            self._options["hdr"] = [*self._options.get("hdr", []), *lines]
        else:
            self._options[key] = value

    def __getitem__(self, key: str) -> Any:
        return self._options[key]

    def __delitem__(self, key: str) -> None:
        del self._options[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def take(self) -> dict[str, Any]:
        """All that was set; from now on nothing is."""
        options, self._options = self._options, {}
        return options
