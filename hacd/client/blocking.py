"""The blocking client: the calls of the contract, over one connection, for any number of threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any

from hacd import rpc
from hacd.client import calls
from hacd.client.bodies import plain
from hacd.client.connection import Connection
from hacd.errors import from_wire
from hacd.reply import Reply


class Client:
    """A blocking client of the daemon at `path` (default: HACD_SOCKET, else the usual places).

    It dials when first used, and again after the daemon went away. Raises Unavailable where no
    daemon answers, ConnectionLost for what was in flight when it went, Refused (with `code` and
    `message`) for what it would not do. May be shared by threads; not over a fork. With
    `descriptors`, bodies in shared memory come as descriptors.
    """

    def __init__(self, path: calls.Path | None = None, *, descriptors: bool = True) -> None:
        self._path = path
        self._descriptors = descriptors
        self._connection: Connection | None = None
        self._msgids = itertools.count(1)
        self._dialling = threading.RLock()

    def __enter__(self) -> Client:
        self._dial()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. Suspended queries that are in flight are cancelled by the daemon."""
        with self._dialling:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.hang_up()

    def hung_up(self) -> bool:
        """Whether there is no connection, or the daemon has ended it. Does not dial, as any call would."""
        connection = self._connection
        return connection is None or connection.over or connection.hung_up()

    # -- the calls of the contract

    def query(self, url: str, route: str = "", **options: Any) -> Reply:
        """Send a query and wait for its reply, error or timeout (the manual's `http_async_query`).

        `options`: `timeout` (ms), `method`, `hdr` (list of "Name: value"), `body`, `xdata`, and
        the other keys of `$http_req`.
        """
        calls.waits(options)
        return Reply(self._call("query", [url, calls.options(route, options)]))

    def send(self, url: str, route: str = "", **options: Any) -> str:
        """Send a query without waiting for its end; returns its id (the manual's `http_async_send`)."""
        return str(self.call("send", [url, calls.options(route, options)])["id"])

    def run(self, route: str, vars: dict[str, Any] | None = None) -> Any:
        """Enter one of the daemon's routes, and wait for what it replies; None if it ends without a reply.

        `vars` are its pseudo variables, by name. Raises Refused: `unknown_route`, `busy`, `stopping`, or `internal`
        where the route raised.
        """
        return self.call("run", [route, vars or {}])

    def cancel(self, id: str) -> bool:
        """End a query of this user; True if it was in flight."""
        return bool(self.call("cancel", [id]))

    def stats(self) -> dict[str, Any]:
        """The daemon's counters."""
        return dict(self.call("stats", []))

    def transactions(self) -> list[dict[str, Any]]:
        """What is in flight: maps of `id url route age_ms worker`."""
        return list(self.call("transactions", []))

    def ping(self) -> dict[str, Any]:
        """That the daemon is there."""
        return dict(self.call("ping", []))

    def hello(self, **options: Any) -> dict[str, Any]:
        """The daemon's version, methods and limits."""
        return dict(self.call("hello", [options]))

    def set(self, name: str, value: Any) -> bool:
        """Change one setting of the daemon until its next reload or start; for root and its own user."""
        return bool(self.call("set", [name, value]))

    def reload(self) -> dict[str, list[str]]:
        """Have the daemon read its settings and routes again; `changed` holds now, `at_start` takes a restart."""
        return dict(self.call("reload", []))

    def tail(self, follow: bool = False, **filter: Any) -> Generator[dict[str, Any], None, None]:
        """The last lines of the daemon's log: maps of `time level process pid id route message`.

        `filter`: `id`, `route`, `level` (the least) and `lines` (how many, 10). With `follow`, further lines
        as they come, until the iterator is closed. Uses a connection of its own. For root and the daemon's
        own user; raises Refused for others.
        """
        connection = self._connect()
        try:
            yield from _tail(connection, {"follow": follow, **filter})
        finally:
            connection.close()

    def stop(self) -> bool:
        """Drain and stop the daemon; for root and the daemon's own user."""
        return bool(self.call("stop", []))

    def query_many(self, queries: Iterable[calls.Item], in_flight: int = 64) -> Iterator[Reply]:
        """Send `queries`, `in_flight` of them at a time, and give their replies in the order of their ends.

        A query is a URL, (URL, route), (URL, options) or (URL, route, options); `reply.index` is
        its place. One that the daemon refuses comes back with `code` -1. Uses a connection of
        its own; when the iterator is closed, what is in flight is cancelled. Replies that wait for
        a slow consumer wait in the daemon: more than `max_client_buffer` bytes of them, and it hangs
        up, so keep `in_flight` times the size of a body below that.
        """
        items = calls.many(queries)
        connection = self._connect()
        try:
            yield from _pipeline(connection, items, in_flight)
        finally:
            connection.close()

    # -- how a call travels

    def call(self, method: str, params: list[Any]) -> Any:
        """Any method of the wire. Raises Refused, ConnectionLost or Unavailable."""
        return plain(self._call(method, params))

    def _call(self, method: str, params: list[Any]) -> Any:
        msgid = next(self._msgids) & rpc.MSGID_MAX
        data = calls.request(msgid, method, params)
        while (call := self._dial().call(msgid, data)) is None:
            continue  # another thread's call ended the connection just now
        if call.error is not None:
            raise from_wire(call.error)
        return call.result

    def _dial(self) -> Connection:
        """The connection, or a new one: that the daemon was restarted while nobody called is no news.

        Of one that ended a call a moment ago it is not looked for: what it does not hear goes over a new one, too.
        """
        used = self._connection
        if used is not None and used.fresh():
            return used
        with self._dialling:
            connection = self._connection
            if connection is None or connection.over or connection.hung_up():
                if connection is not None and not connection.over:
                    connection.retire()
                connection = self._connection = self._connect()
            return connection

    def _connect(self) -> Connection:
        return Connection(calls.find_socket(self._path), self._descriptors)


def _tail(connection: Connection, filter_: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The response of `tail`, and then its notifications."""
    connection.send(calls.request(0, "tail", [filter_]))
    while True:
        for message in connection.receive():
            if type(message) is list and message[:2] == [rpc.NOTIFICATION, "log"]:
                yield message[2][0]
                continue
            _, error, result = calls.ended(message)
            if error is not None:
                raise from_wire(error)
            yield from result
            if not filter_["follow"]:
                return


def _pipeline(connection: Connection, queries: Iterator[calls.Item], in_flight: int) -> Iterator[Reply]:
    """Keep `in_flight` queries under way; what one read brought is answered with one write."""
    next_index = under_way = 0
    more = True
    pack = rpc.packer()  # a new one for each query would take a third of what a caller does for it
    while True:
        out: list[bytes] = []
        for item in islice(queries, max(1, in_flight) - under_way) if more else ():
            out.append(calls.request(next_index & rpc.MSGID_MAX, "query", calls.params(item), pack))
            next_index += 1
        if out:
            connection.send(b"".join(out))
            under_way += len(out)
        else:
            more = False
        if not under_way:
            return
        for message in connection.receive():
            index, error, result = calls.ended(message)
            under_way -= 1
            yield Reply(result, index) if error is None else calls.refused(error, index)
