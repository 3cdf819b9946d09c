"""The clients: what callers write, against a real daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hacd import AsyncClient, Client, ConnectionLost, HacdError, Refused, Reply, Unavailable
from tests.conftest import StartDaemon, StartOrigin
from tests.support.daemon import Daemon
from tests.support.origins import REPLY, Nginx, RawOrigin, answer
from tests.support.waiting import wait_for

T = TypeVar("T")


def held(start_origin: StartOrigin) -> RawOrigin:
    """An origin that answers /hold when it is released, and everything else at once."""

    def script(sock: socket.socket, head: bytes) -> None:
        if b"/hold" in head:
            origin.release.wait(30)
        sock.sendall(REPLY)

    origin = start_origin(script)
    return origin


# -- blocking


def test_many_threads_share_a_client(client: Client, start_origin: StartOrigin) -> None:
    def script(sock: socket.socket, head: bytes) -> None:
        path = head.split(b" ")[1]
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    origin = start_origin(script)

    def work(number: int) -> list[bool]:
        return [client.query(f"{origin.url}/{number}/{n}").rb == b"/%d/%d" % (number, n) for n in range(50)]

    with ThreadPoolExecutor(16) as threads:
        assert all(all(results) for results in threads.map(work, range(16)))


def test_a_thread_is_not_held_by_another_ones_slow_query(client: Client, start_origin: StartOrigin) -> None:
    origin = held(start_origin)
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(client.query, f"{origin.url}/hold")
        wait_for("the slow query", lambda: origin.heads)
        assert [client.query(origin.url).ok for _ in range(20)] == [1] * 20
        assert not slow.done()
        origin.release.set()
        assert slow.result(10).ok == 1


def test_reader_hands_over_to_one_who_still_waits(client: Client, start_origin: StartOrigin) -> None:
    """The thread that read for all leaves when it has its reply; another has to read on."""
    origin = held(start_origin)
    with ThreadPoolExecutor(8) as threads:
        slow = [threads.submit(client.query, f"{origin.url}/hold") for _ in range(7)]
        wait_for("the slow queries", lambda: len(origin.heads) == 7)
        assert threads.submit(client.query, origin.url).result(10).ok == 1
        origin.release.set()
        assert [future.result(10).ok for future in slow] == [1] * 7


def test_send_gives_an_id_and_cancel_takes_it(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = held(start_origin)
    with daemon.client() as client:
        id_ = client.send(f"{origin.url}/hold", "R", timeout=60_000)
        assert [row["route"] for row in client.transactions() if row["id"] == id_] == ["R"]
        assert client.cancel(id_) is True
        assert client.cancel(id_) is False


def test_query_many_takes_every_form(client: Client, start_origin: StartOrigin) -> None:
    url = start_origin(answer).url
    items: list[str | tuple[Any, ...]] = [url, (url, "R"), (url, {"xdata": 1}), (url, "S", {"xdata": 2}), (url,)]
    replies = sorted(client.query_many(items), key=lambda reply: reply.index or 0)
    assert [(reply.route, reply.xdata) for reply in replies] == [("", None), ("R", None), ("", 1), ("S", 2), ("", None)]


@pytest.mark.parametrize("item", [(1,), ("http://x/", 1), ("http://x/", "R", {}, 1), ("http://x/", {}, "R")])
def test_query_many_refuses_other_forms(client: Client, item: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="would be right"):
        list(client.query_many([item]))


def test_a_path_may_be_a_pathlib_path(daemon: Daemon) -> None:
    with Client(Path(daemon.socket)) as client:
        assert client.ping()["version"]

    async def main() -> None:
        async with AsyncClient(Path(daemon.socket)) as other:
            assert (await other.ping())["version"]

    asyncio.run(main())


def test_query_many_of_one_url_is_no_query_for_each_letter(client: Client, daemon: Daemon) -> None:
    with pytest.raises(TypeError, match="a list of URLs would be right"):
        list(client.query_many("http://x/"))

    async def main() -> None:
        async with AsyncClient(daemon.socket) as other:
            with pytest.raises(TypeError, match="a list of URLs would be right"):
                await anext(aiter(other.query_many("http://x/")))

    asyncio.run(main())


def test_query_many_waits_for_replies(client: Client) -> None:
    with pytest.raises(TypeError, match="suspend=0: use send"):
        list(client.query_many([("http://x/", {"suspend": 0})]))


def test_query_many_goes_on_past_a_refused_one(client: Client, nginx: Nginx) -> None:
    replies = sorted(client.query_many([nginx.url, "ftp://x/", nginx.url]), key=lambda reply: reply.index or 0)
    assert [(reply.ok, reply.code) for reply in replies] == [(1, 0), (0, -1), (1, 0)]
    assert replies[1].err is not None
    assert replies[1].err.startswith("bad_request: url: scheme 'ftp'")


def test_query_many_keeps_its_window_and_is_lazy(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = held(start_origin)
    drawn: list[int] = []

    def queries() -> Any:
        for number in range(100):
            drawn.append(number)
            yield f"{origin.url}/hold"

    with daemon.client() as client:
        replies = client.query_many(queries(), in_flight=5)
        thread = threading.Thread(target=lambda: next(replies))
        thread.start()
        wait_for("the window to be full", lambda: len(origin.heads) == 5)
        assert drawn == list(range(5))
        origin.release.set()
        thread.join(10)
        assert sum(1 for _ in replies) == 99


def test_query_many_that_is_left_calls_off_the_rest(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = held(start_origin)
    with daemon.client() as client:
        replies = client.query_many([origin.url, *[f"{origin.url}/hold"] * 10])
        assert next(replies).ok == 1
        replies.close()  # type: ignore[attr-defined]
        wait_for("the rest to be called off", lambda: client.stats()["in_flight"] == 0)


def test_query_many_of_nothing(client: Client) -> None:
    assert list(client.query_many([])) == []


def test_refused_is_an_error_with_code_and_message(client: Client) -> None:
    with pytest.raises(Refused) as caught:
        client.query("http://x/", no_such=1)
    assert caught.value.code == "bad_request"
    assert "no_such" in caught.value.message


def test_what_cannot_travel_is_a_type_error(client: Client, nginx: Nginx) -> None:
    with pytest.raises(TypeError, match="cannot travel"):
        client.query(nginx.url, xdata=object())
    with pytest.raises(TypeError, match="cannot travel"):
        client.query(nginx.url, xdata=2**70)
    with pytest.raises(TypeError, match="send"):
        client.query(nginx.url, suspend=0)
    assert client.query(nginx.url).ok == 1


def test_client_outlives_a_restart(start_daemon: StartDaemon, nginx: Nginx) -> None:
    daemon = start_daemon()
    client = daemon.client()
    assert client.query(nginx.url).ok == 1
    front = daemon.pid("front")
    os.kill(front, signal.SIGKILL)
    wait_for("a new front", lambda: daemon.pid("front") != front)
    assert client.query(nginx.url).ok == 1  # nothing was in flight, so nothing is raised
    client.close()


def test_client_outlives_a_restart_after_a_send(start_daemon: StartDaemon, nginx: Nginx) -> None:
    """The replies of unsuspended queries lie unread in front of the end of the stream."""
    daemon = start_daemon()
    with daemon.client() as client, daemon.client() as other:
        client.send(nginx.url)
        wait_for("its reply", lambda: other.stats()["replies"] == 1)
        front = daemon.pid("front")
        os.kill(front, signal.SIGKILL)
        wait_for("a new front", lambda: daemon.pid("front") != front)
        assert client.query(nginx.url).ok == 1


def test_a_signal_in_the_middle_of_a_call(daemon: Daemon, start_origin: StartOrigin) -> None:
    """Its handler may not call on the same client: its thread would wait for itself."""
    origin = held(start_origin)
    said: list[str] = []

    def handler(_number: int, _frame: object) -> None:
        try:
            client.ping()
        except RuntimeError as error:
            said.append(str(error))
        origin.release.set()

    def interrupt() -> None:
        wait_for("the query", lambda: origin.heads)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with ThreadPoolExecutor(1) as threads, daemon.client() as client:
            threads.submit(interrupt)
            assert client.query(f"{origin.url}/hold").ok == 1
            assert ["of its own" in line for line in said] == [True]
            assert client.query(origin.url).ok == 1
    finally:
        signal.signal(signal.SIGUSR1, before)


class Slow(dict[str, Any]):
    """A map whose packing gives other threads their turn."""

    def items(self) -> Any:
        threading.Event().wait(0.0005)
        return super().items()


def test_threads_pack_their_calls_apart(client: Client, nginx: Nginx) -> None:
    def work(number: int) -> list[Any]:
        return [client.query(nginx.url, xdata=Slow(number=number, n=n)).xdata for n in range(20)]

    with ThreadPoolExecutor(8) as threads:
        for number, came in enumerate(threads.map(work, range(8))):
            assert came == [{"number": number, "n": n} for n in range(20)]


def test_interrupted_thread_does_not_hold_the_others(daemon: Daemon, start_origin: StartOrigin) -> None:
    """Half a frame is out when its thread gives up: the others get an error, and the next call works."""
    origin = held(start_origin)
    with daemon.client() as client:
        ends: list[BaseException] = []

        def wait() -> None:
            try:
                client.query(f"{origin.url}/hold", timeout=60_000)
            except HacdError as error:
                ends.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_for("the query", lambda: origin.heads)
        connection = client._connection
        assert connection is not None
        half = connection.send

        def interrupted(data: bytes) -> bool:
            half(data[: len(data) // 2])
            raise KeyboardInterrupt

        connection.send = interrupted  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            client.query(origin.url)
        waiting.join(10)
        assert [type(end) for end in ends] == [ConnectionLost]
        assert client.query(origin.url).ok == 1


def test_unavailable_names_the_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("none") / "hacd.sock")
    with pytest.raises(Unavailable, match=path), Client(path):
        pass
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    with pytest.raises(Unavailable, match="nobody listens"):
        Client(path).ping()


def test_a_daemon_that_is_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("other") / "sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def impostor() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n\xc1")

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(HacdError), Client(path) as client:
            client.ping()
        thread.join()


# -- asyncio


def run(daemon: Daemon, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with AsyncClient(daemon.socket) as client:
            return await asyncio.wait_for(work(client), 30)

    return asyncio.run(main())


def test_async_query(daemon: Daemon, nginx: Nginx) -> None:
    reply = run(daemon, lambda client: client.query(nginx.url, "R", xdata={"a": 1}))
    assert (reply.ok, reply.route, reply.xdata, reply.bs) == (1, "R", {"a": 1}, 53)


def test_async_many_tasks(daemon: Daemon, nginx: Nginx) -> None:
    async def work(client: AsyncClient) -> list[Reply]:
        return await asyncio.gather(*(client.query(nginx.url) for _ in range(500)))

    assert [reply.rs for reply in run(daemon, work)] == [200] * 500


def test_async_large_bodies(daemon: Daemon, nginx: Nginx) -> None:
    data = os.urandom(3_000_000)
    (nginx.files / "large").write_bytes(data)

    async def work(client: AsyncClient) -> list[Reply]:
        return await asyncio.gather(*(client.query(f"{nginx.url}/file/large", body=None) for _ in range(4)))

    assert all(reply.rb == data for reply in run(daemon, work))


def test_async_query_many(daemon: Daemon, nginx: Nginx) -> None:
    async def work(client: AsyncClient) -> list[Reply]:
        items = [nginx.url] * 300 + ["ftp://x/"]
        return [reply async for reply in client.query_many(items, in_flight=20)]

    replies = run(daemon, work)
    assert sorted(reply.index for reply in replies if reply.index is not None) == list(range(301))
    assert [reply.index for reply in replies if reply.code == -1] == [300]


def test_async_route_takes_replies_of_unsuspended_queries(daemon: Daemon, nginx: Nginx) -> None:
    async def work(client: AsyncClient) -> list[tuple[str, str]]:
        came: asyncio.Queue[Reply] = asyncio.Queue()

        @client.route("HTTP_REPLY")
        async def http_reply(reply: Reply) -> None:
            await came.put(reply)

        @client.route("PLAIN")
        def plain(reply: Reply) -> None:
            came.put_nowait(reply)

        sent = [await client.send(nginx.url, "HTTP_REPLY"), await client.send(nginx.url, "PLAIN")]
        replies = [await came.get(), await came.get()]
        assert sorted(reply.id for reply in replies) == sorted(sent)
        return sorted((reply.route, str(reply.ok)) for reply in replies)

    assert run(daemon, work) == [("HTTP_REPLY", "1"), ("PLAIN", "1")]


def test_async_cancelled_task_cancels_its_query(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = held(start_origin)

    async def work(client: AsyncClient) -> int:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.query(f"{origin.url}/hold", timeout=60_000), 0.2)
        while (await client.stats())["in_flight"]:
            await asyncio.sleep(0)
        return (await client.query(origin.url)).ok

    assert run(daemon, work) == 1


def test_async_query_many_that_is_left_calls_off_the_rest(daemon: Daemon, start_origin: StartOrigin) -> None:
    origin = held(start_origin)

    async def work(client: AsyncClient) -> None:
        replies = client.query_many([origin.url, *[f"{origin.url}/hold"] * 5])
        assert (await anext(replies)).ok == 1
        await replies.aclose()  # type: ignore[attr-defined]
        while (await client.stats())["in_flight"]:
            await asyncio.sleep(0)

    run(daemon, work)


def test_async_errors(daemon: Daemon, nginx: Nginx) -> None:
    async def work(client: AsyncClient) -> int:
        with pytest.raises(Refused, match="bad_request"):
            await client.query("ftp://x/")
        with pytest.raises(TypeError, match="cannot travel"):
            await client.query(nginx.url, xdata=object())
        return (await client.query(nginx.url)).ok

    assert run(daemon, work) == 1


def test_async_frame_over_max_frame(daemon: Daemon, nginx: Nginx) -> None:
    async def work(client: AsyncClient) -> int:
        for _ in range(5):
            with pytest.raises(Refused, match="too_large"):
                await client.query(nginx.url, body=bytes(17 * 1024 * 1024))
        return (await client.query(nginx.url)).ok

    assert run(daemon, work) == 1


def test_async_handler_that_raises_harms_nobody_else(daemon: Daemon, nginx: Nginx) -> None:
    async def work(client: AsyncClient) -> tuple[int, list[str]]:
        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context["message"]))

        @client.route("BAD")
        def bad(_reply: Reply) -> None:
            raise ZeroDivisionError

        await client.send(nginx.url, "BAD")
        while not said:
            await asyncio.sleep(0)
        return (await client.query(nginx.url)).ok, said

    assert run(daemon, work) == (1, ["handler of route 'BAD' raised"])


def test_async_connection_lost_and_dialled_again(
    start_daemon: StartDaemon, start_origin: StartOrigin, nginx: Nginx
) -> None:
    origin = held(start_origin)
    daemon = start_daemon()

    async def work(client: AsyncClient) -> int:
        waiting = [asyncio.create_task(client.query(f"{origin.url}/hold", timeout=60_000)) for _ in range(3)]
        while len(origin.heads) < 3:
            await asyncio.sleep(0)
        os.kill(daemon.pid("front"), signal.SIGKILL)
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [ConnectionLost] * 3
        return (await client.query(nginx.url)).ok

    assert run(daemon, work) == 1


def test_async_client_may_be_closed_by_a_handler(daemon: Daemon, nginx: Nginx) -> None:
    async def work(client: AsyncClient) -> bool:
        closed = asyncio.Event()

        @client.route("LAST")
        async def last(_reply: Reply) -> None:
            await client.close()
            closed.set()

        await client.send(nginx.url, "LAST")
        await closed.wait()
        return True

    assert run(daemon, work)


def test_async_client_may_be_used_with_one_loop_after_the_other(daemon: Daemon, nginx: Nginx) -> None:
    client = AsyncClient(daemon.socket)

    async def once() -> int:
        reply = await client.query(nginx.url)
        await client.close()
        return reply.ok

    assert [asyncio.run(once()), asyncio.run(once())] == [1, 1]


def test_async_unavailable() -> None:
    async def main() -> None:
        async with AsyncClient("/nonexistent/hacd.sock"):
            pass

    with pytest.raises(Unavailable, match=r"/nonexistent/hacd\.sock"):
        asyncio.run(main())
