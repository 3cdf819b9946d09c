"""The blocking client. One connection, any number of threads.

There is no thread of its own: of the threads that wait, one reads for all, and passes that
on when it has what it came for. A call alone therefore costs two system calls and no switch.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any

from hacd import rpc
from hacd.client import calls
from hacd.client.bodies import GREETING, Receiver, plain
from hacd.errors import ConnectionLost, HacdError, ProtocolError, Refused, from_wire
from hacd.reply import Reply

_DONTWAIT = int(socket.MSG_DONTWAIT)  # as a flag of an enum it costs more to combine than to use

#: s after the daemon said something in which it is taken to be there still
FRESH = 0.01


class _Call:
    """A call that waits: for its end, or for its thread's turn to read."""

    __slots__ = ("done", "error", "failure", "result")

    def __init__(self) -> None:
        self.done = False
        self.error: Any = None
        self.result: Any = None
        self.failure: HacdError | None = None


class _Connection:
    """A socket that threads share, and the calls that wait on it. `over`: no new call may use it."""

    def __init__(self, path: str, descriptors: bool) -> None:
        self.path = path
        self.over = False
        self._greeting = GREETING if descriptors else b""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(path)
        except OSError as error:
            self._sock.close()
            raise calls.unavailable(path, error) from None
        self._receiver = Receiver(self._sock, descriptors)
        self._calls: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._reading = False
        self._heard = 0.0  # when a call ended
        self._sending = threading.Lock()

    # -- bytes

    def send(self, data: bytes) -> bool:
        """False where the daemon hears no more: reading tells why, or that it went without a word."""
        try:
            self._sock.sendall(self._greeting + self._receiver.returned() + data)
            self._greeting = b""
        except (BrokenPipeError, ConnectionResetError):
            return False
        except OSError as error:
            raise calls.lost(self.path, error.strerror or "write failed") from None
        return True

    def receive(self) -> list[Any]:
        """At least one message. Raises ConnectionLost."""
        messages: list[Any] = []
        while not messages:
            try:
                size = self._receiver.read()
            except OSError as error:
                raise calls.lost(self.path, error.strerror or "read failed") from None
            if not size:
                raise calls.lost(self.path, "connection closed")
            self._receiver.decode(size, messages)
        return messages

    def hung_up(self) -> bool:
        """Whether the daemon has gone while nobody called. What it said meanwhile are replies of `send`s."""
        with self._lock:  # so that no call begins meanwhile, whose response this would take
            return not self._calls and not self._reading and self._drained()

    def fresh(self) -> bool:
        """Whether the daemon was there a moment ago: to look again at each call would take as long as a tenth of it."""
        return not self.over and time.monotonic() - self._heard < FRESH

    def _drained(self) -> bool:
        try:
            while size := self._receiver.read(_DONTWAIT):
                self._receiver.decode(size, [])
        except BlockingIOError:
            return False
        except (OSError, ProtocolError):
            return True
        return True

    def close(self) -> None:
        self._shut()
        self._sock.close()
        self._receiver.close()

    def _shut(self) -> None:
        self.over = True
        # A thread that reads wakes up from shutdown, and not from close.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # -- calls

    def call(self, msgid: int, data: bytes) -> _Call | None:
        """Send a call and wait for its end; None if the connection is over. Raises what ended it meanwhile."""
        call = _Call()
        with self._lock:
            if self.over:
                return None
            self._calls[msgid] = call
            is_new = not self._heard
        try:
            with self._sending:
                sent = self.send(data)
            self._wait(call)
        except BaseException as error:
            # Half a frame may be out, or bytes that were for others lost: nobody can go on here.
            self._break(calls.lost(self.path, f"a thread that shares the connection was interrupted: {error!r}"))
            raise
        finally:
            self._leave(msgid, call)
        if call.failure is not None:
            if not sent and not is_new and isinstance(call.failure, ConnectionLost):
                return None  # the daemon had gone before: it has heard nothing of this
            raise call.failure
        return call

    def _leave(self, msgid: int, call: _Call) -> None:
        """The call is over. The last one of a connection that is over closes it."""
        with self._lock:
            del self._calls[msgid]
            self._heard = time.monotonic()
            if calls.ends_connection(call.error):
                self.over = True
            last = self.over and not self._calls
        if last:
            self.close()

    def _wait(self, call: _Call) -> None:
        """Until `call` has ended: read for all, or wait while another thread does."""
        with self._turn:
            while self._reading and not call.done:
                self._turn.wait()
            if call.done:
                return
            self._reading = True
        try:
            while not call.done:
                self._hand_out(self.receive())
        except (ConnectionLost, ProtocolError, Refused) as error:
            self._break(error)
        finally:
            with self._lock:
                self._reading = False
                if len(self._calls) > 1:
                    self._turn.notify_all()

    def _hand_out(self, messages: list[Any]) -> None:
        for message in messages:
            if type(message) is list and message[:1] == [rpc.NOTIFICATION]:
                continue  # the reply of a `send`: this client has no place for it
            msgid, error, result = calls.ended(message)
            call = self._calls.get(msgid)
            if call is not None:
                call.error, call.result, call.done = error, result, True
        if len(self._calls) > 1:
            with self._lock:
                self._turn.notify_all()

    def _break(self, failure: HacdError) -> None:
        """The connection is of no use any more: every call on it ends with `failure`."""
        self._shut()
        with self._lock:
            for call in self._calls.values():
                if not call.done:
                    call.failure, call.done = failure, True
            self._turn.notify_all()


class Client:
    """A blocking client of the daemon at `path` (default: HACD_SOCKET, else the usual places).

    It dials when first used, and again after the daemon went away. Raises Unavailable where no
    daemon answers, ConnectionLost for what was in flight when it went, Refused (with `code` and
    `message`) for what it would not do. May be shared by threads; not over a fork. With
    `descriptors`, bodies in shared memory come as descriptors.
    """

    def __init__(self, path: str | None = None, *, descriptors: bool = True) -> None:
        self._path = path
        self._descriptors = descriptors
        self._connection: _Connection | None = None
        self._msgids = itertools.count(1)
        self._dialling = threading.Lock()

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
            connection.close()

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
        connection = self._connect()
        try:
            yield from _pipeline(connection, iter(queries), in_flight)
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

    def _dial(self) -> _Connection:
        """The connection, or a new one: that the daemon was restarted while nobody called is no news."""
        used = self._connection
        if used is not None and used.fresh():
            return used
        with self._dialling:
            connection = self._connection
            if connection is None or connection.over or connection.hung_up():
                if connection is not None and not connection.over:
                    connection.close()
                connection = self._connection = self._connect()
            return connection

    def _connect(self) -> _Connection:
        return _Connection(calls.find_socket(self._path), self._descriptors)


def _tail(connection: _Connection, filter_: dict[str, Any]) -> Iterator[dict[str, Any]]:
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


def _pipeline(connection: _Connection, queries: Iterator[calls.Item], in_flight: int) -> Iterator[Reply]:
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
