"""The asyncio client. One connection; a turn of the loop's calls leave with one write."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any

from hacd import rpc
from hacd.client import calls
from hacd.client.bodies import GREETING, Receiver, plain
from hacd.errors import HacdError, Refused, from_wire
from hacd.reply import Reply

#: reads at one turn of the loop, while each fills its buffer; s between two attempts to dial, while the backlog is full
READS, REDIAL = 4, 0.01

#: takes the reply of an unsuspended query
Handler = Callable[[Reply], Awaitable[None] | None]

#: takes the end of a call: an error, or the result
End = Callable[[HacdError | None, Any], None]


class _Connection:
    """Bytes in, calls ended; calls gathered, bytes out. `ends`: what to call, by msgid.

    The socket is watched, and no transport's: those lose the descriptors of bodies.
    """

    def __init__(self, path: str, sock: socket.socket, on_reply: Callable[[Reply], None], descriptors: bool) -> None:
        self.path = path
        self.ends: dict[int, End] = {}
        self.lost: HacdError | None = None
        self.loop = asyncio.get_running_loop()
        self._sock = sock
        self._on_reply = on_reply
        self._receiver = Receiver(sock, descriptors)
        self._gathered: list[bytes] = []
        self._unsent: memoryview | None = None
        if descriptors:
            self.send(GREETING)
        self.loop.add_reader(sock.fileno(), self._readable)

    # -- bytes out

    def send(self, data: bytes) -> None:
        """Gather; all that one turn of the loop gathers is one write."""
        if not self._gathered:
            self.loop.call_soon(self._flush)
        self._gathered.append(data)

    def _flush(self) -> None:
        if self._unsent is None and self._gathered and self.lost is None:
            data = self._receiver.returned() + b"".join(self._gathered)
            self._gathered.clear()
            self._write(memoryview(data))

    def _write(self, data: memoryview) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the daemon hung up; reading tells why, or that it went without a word
        if sent < len(data):
            if self._unsent is None:
                self.loop.add_writer(self._sock.fileno(), self._writable)
            self._unsent = data[sent:]
        elif self._unsent is not None:
            self._unsent = None
            self.loop.remove_writer(self._sock.fileno())
            self._flush()

    def _writable(self) -> None:
        if self._unsent is not None:
            self._write(self._unsent)

    # -- bytes in

    def _readable(self) -> None:
        try:
            for _ in range(READS):
                size = self._receiver.read()
                if not size:
                    self._fail(calls.lost(self.path, "connection closed"))
                    return
                messages: list[Any] = []
                self._receiver.decode(size, messages)
                for message in messages:
                    self._received(message)
                self._receiver.check()
                if size < rpc.CHUNK or self.lost is not None:
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(calls.lost(self.path, error.strerror or "read failed"))
        except HacdError as error:
            self._fail(error)

    def _received(self, message: Any) -> None:
        if type(message) is list and len(message) == 3 and message[0] == rpc.NOTIFICATION:
            if message[1] == "resume":
                self._on_reply(Reply(message[2][0]))
            return  # any other is of a later version, and was not asked for
        msgid, error, result = calls.ended(message)
        if error is not None and calls.ends_connection(error):
            self.lost = calls.lost(self.path, "a frame was too large")
        end = self.ends.pop(msgid, None)
        if end is not None:
            end(None if error is None else from_wire(error), result)

    def cancel(self, msgid: int) -> None:
        """Nobody waits for that call any more: if it is a query, the daemon calls it off."""
        if self.ends.pop(msgid, None) is not None and self.lost is None:
            self.send(rpc.notification("cancel", [msgid]))

    # -- the end

    def _fail(self, error: HacdError) -> None:
        if self.lost is None:
            self.lost = error
        ends, self.ends = self.ends, {}
        for end in ends.values():
            end(self.lost, None)
        fd = self._sock.fileno()
        if fd >= 0 and not self.loop.is_closed():  # else its watches went with it
            self.loop.remove_reader(fd)
            self.loop.remove_writer(fd)
        self._sock.close()
        self._receiver.close()

    def hang_up(self) -> None:
        """End the connection, and every call that waits on it."""
        self._fail(calls.lost(self.path, "closed by this client"))


class AsyncClient:
    """An asyncio client of the daemon at `path` (default: HACD_SOCKET, else the usual places).

    It dials when first used, and again after the daemon went away. Raises as `Client` does.
    A task that is cancelled while it waits cancels its query. With `descriptors`, bodies in shared
    memory come as descriptors.
    """

    def __init__(self, path: calls.Path | None = None, *, descriptors: bool = True) -> None:
        self._path = path
        self._descriptors = descriptors
        self._connection: _Connection | None = None
        self._dialling: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._msgid = 0
        self._handlers: dict[str, Handler] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    async def __aenter__(self) -> AsyncClient:
        await self._dial()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up. Suspended queries that are in flight are cancelled by the daemon."""
        async with self._lock():
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.hang_up()
        handlers = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    # -- the calls of the contract

    async def query(self, url: str, route: str = "", **options: Any) -> Reply:
        """Send a query and wait for its reply, error or timeout. Options as for `Client.query`."""
        calls.waits(options)
        return Reply(await self._call("query", [url, calls.options(route, options)]))

    async def send(self, url: str, route: str = "", **options: Any) -> str:
        """Send a query without waiting for its end; returns its id. Its reply goes to the route's handler."""
        return str((await self.call("send", [url, calls.options(route, options)]))["id"])

    async def run(self, route: str, vars: dict[str, Any] | None = None) -> Any:
        """Enter one of the daemon's routes, and wait for what it replies, as `Client.run`.

        A task that is cancelled while it waits calls off the queries of the route.
        """
        return await self.call("run", [route, vars or {}])

    async def cancel(self, id: str) -> bool:
        """End a query of this user; True if it was in flight."""
        return bool(await self.call("cancel", [id]))

    async def stats(self) -> dict[str, Any]:
        """The daemon's counters."""
        return dict(await self.call("stats", []))

    async def transactions(self) -> list[dict[str, Any]]:
        """What is in flight: maps of `id url route age_ms worker`."""
        return list(await self.call("transactions", []))

    async def ping(self) -> dict[str, Any]:
        """That the daemon is there."""
        return dict(await self.call("ping", []))

    async def hello(self, **options: Any) -> dict[str, Any]:
        """The daemon's version, methods and limits."""
        return dict(await self.call("hello", [options]))

    async def set(self, name: str, value: Any) -> bool:
        """Change one setting of the daemon until its next reload or start; for root and its own user."""
        return bool(await self.call("set", [name, value]))

    async def reload(self) -> dict[str, list[str]]:
        """Have the daemon read its settings and routes again; `changed` holds now, `at_start` takes a restart."""
        return dict(await self.call("reload", []))

    async def tail(self, **filter: Any) -> list[dict[str, Any]]:
        """The last lines of the daemon's log, filtered as by `Client.tail`, which can follow it too.

        Raises TypeError for `follow`: the connection is shared, and its calls would wait behind a long log.
        """
        if filter.get("follow"):
            raise TypeError("follow: Client.tail follows the log; AsyncClient.tail gives its last lines")
        return list(await self.call("tail", [filter]))

    async def stop(self) -> bool:
        """Drain and stop the daemon; for root and the daemon's own user."""
        return bool(await self.call("stop", []))

    def route(self, name: str) -> Callable[[Handler], Handler]:
        """Decorator: `handler(reply)` takes the replies of unsuspended queries that name this route.

        Also of queries that other connections of this user sent; with others who registered for
        the route, it takes turns.
        """

        def decorate(handler: Handler) -> Handler:
            self._handlers[name] = handler
            connection = self._connection
            if connection is not None and connection.lost is None and connection.loop.is_running():
                self._register(connection, [name])
            return handler

        return decorate

    async def query_many(self, queries: Iterable[calls.Item], in_flight: int = 64) -> AsyncIterator[Reply]:
        """As `Client.query_many`: `in_flight` at a time, replies in the order of their ends."""
        source = enumerate(calls.many(queries))
        connection = await self._dial()
        many = _Many()
        under_way: dict[int, int] = {}  # msgid by index
        more = True
        try:
            while True:
                while more and connection.lost is None and len(under_way) < max(1, in_flight):
                    index, item = next(source, (-1, ""))
                    more = index >= 0
                    if more:
                        params = calls.params(item)
                        under_way[index] = self._start(connection, "query", params, partial(many.end, index))
                if not under_way:
                    if more and connection.lost is not None:
                        raise connection.lost
                    return
                for index, error, result in await many.ended():
                    del under_way[index]
                    yield Reply(result, index) if error is None else calls.refused(error, index)
        finally:
            for msgid in under_way.values():
                connection.cancel(msgid)

    # -- how a call travels

    async def call(self, method: str, params: list[Any]) -> Any:
        """Any method of the wire. Raises Refused, ConnectionLost or Unavailable."""
        return plain(await self._call(method, params))

    async def _call(self, method: str, params: list[Any]) -> Any:
        loop = asyncio.get_running_loop()
        connection = self._connection
        if connection is None or connection.lost is not None or connection.loop is not loop:
            connection = await self._dial()
        future: asyncio.Future[Any] = loop.create_future()
        msgid = self._start(connection, method, params, partial(_settle, future))
        try:
            return await future
        except asyncio.CancelledError:
            connection.cancel(msgid)
            raise

    def _start(self, connection: _Connection, method: str, params: list[Any], end: End) -> int:
        msgid = self._msgid = (self._msgid + 1) & rpc.MSGID_MAX
        data = calls.request(msgid, method, params)
        if connection.lost is not None:
            raise connection.lost
        connection.ends[msgid] = end
        connection.send(data)
        return msgid

    def _lock(self) -> asyncio.Lock:
        """One task dials at a time. A client may be used with one loop after the other."""
        loop = asyncio.get_running_loop()
        if self._dialling is None or self._dialling[0] is not loop:
            self._dialling = (loop, asyncio.Lock())
        return self._dialling[1]

    async def _dial(self) -> _Connection:
        async with self._lock():
            loop = asyncio.get_running_loop()
            connection = self._connection
            if connection is None or connection.lost is not None or connection.loop is not loop:
                if connection is not None:
                    connection.hang_up()
                connection = self._connection = await self._connect(calls.find_socket(self._path))
                if self._handlers:
                    self._register(connection, list(self._handlers))
            return connection

    async def _connect(self, path: str) -> _Connection:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Not `loop.sock_connect`: where the backlog is full, it takes the socket for connected.
            while (error := sock.connect_ex(path)) == errno.EAGAIN:
                await asyncio.sleep(REDIAL)
            if error:
                raise calls.unavailable(path, OSError(error, os.strerror(error)))
        except BaseException:
            sock.close()
            raise
        return _Connection(path, sock, self._deliver, self._descriptors)

    def _register(self, connection: _Connection, routes: list[str]) -> None:
        """Have the replies of these routes come to this connection, whoever of this user sent the query."""
        self._start(connection, "register", [routes], _nothing)

    def _deliver(self, reply: Reply) -> None:
        """The reply of an unsuspended query has come: its route's handler takes it."""
        handler = self._handlers.get(reply.route)
        if handler is None:
            return
        try:
            running = handler(reply)
        except Exception as error:  # noqa: BLE001
            # The handler's own fault, and no reason to end the calls that share this connection.
            context = {"message": f"handler of route {reply.route!r} raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return
        if running is not None:
            task = asyncio.ensure_future(running)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _nothing(_error: HacdError | None, _result: Any) -> None:
    """The end of a call that nobody waits for: without it, replies come to who sent the query."""


def _settle(future: asyncio.Future[Any], error: HacdError | None, result: Any) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class _Many:
    """The ends of a `query_many`, in their order."""

    def __init__(self) -> None:
        self._ended: list[tuple[int, HacdError | None, Any]] = []
        self._any = asyncio.Event()

    def end(self, index: int, error: HacdError | None, result: Any) -> None:
        self._ended.append((index, error, result))
        self._any.set()

    async def ended(self) -> list[tuple[int, HacdError | None, Any]]:
        """Wait for at least one. Raises what ended them all, once those before it were given."""
        await self._any.wait()
        self._any.clear()
        ended, self._ended = self._ended, []
        for place, (_, error, _) in enumerate(ended):
            if error is not None and not isinstance(error, Refused):
                if not place:
                    raise error
                self._ended = ended[place:]
                self._any.set()
                return ended[:place]
        return ended
