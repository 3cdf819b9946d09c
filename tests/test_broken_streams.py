"""What a client makes of a daemon whose stream breaks: what came whole before is handed out, then the error."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest

from hacd import AsyncClient, Client, HacdError
from hacd.errors import ProtocolError
from tests.support.waiting import PATIENCE

#: what is wrong: a byte that begins nothing; a body that was announced, and whose descriptor does not come
BROKEN = {
    "no MessagePack": b"\xc1",
    "no descriptor": msgpack.packb([1, 3, None, {"rb": msgpack.ExtType(1, bytes(7) + b"\x05")}]),
}


@contextmanager
def impostor(path: str, calls: int, answer: Callable[[list[int]], bytes]) -> Iterator[None]:
    """A daemon that reads so many calls, writes what `answer` makes of their numbers, and then waits."""
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            unpacker = msgpack.Unpacker()
            numbers: list[int] = []
            while len(numbers) < calls:
                unpacker.feed(connection.recv(1000))
                numbers += [message[1] for message in unpacker if message[0] == 0]
            connection.sendall(answer(numbers))
            over.wait(PATIENCE)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield
        over.set()
        thread.join()


def responses(numbers: list[int]) -> bytes:
    return b"".join(msgpack.packb([1, number, None, {"pid": 7}]) for number in numbers)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_blocking(tmp_path: Path, broken: bytes) -> None:
    path = str(tmp_path / "sock")
    with impostor(path, 1, lambda numbers: responses(numbers) + broken), Client(path) as client:
        assert client.ping() == {"pid": 7}
        assert client.hung_up()


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_query_many(tmp_path: Path, broken: bytes) -> None:
    path = str(tmp_path / "sock")
    with impostor(path, 2, lambda numbers: responses(numbers) + broken):
        replies = Client(path).query_many(["http://x/"] * 3, in_flight=2)  # on a connection of its own
        assert [next(replies).index, next(replies).index] == [0, 1]
        with pytest.raises(ProtocolError):
            next(replies)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_asyncio(tmp_path: Path, broken: bytes) -> None:
    """The call that is left ends with the error at once, although nothing more comes."""
    path = str(tmp_path / "sock")

    async def work() -> None:
        async with AsyncClient(path) as client:
            calls = [asyncio.ensure_future(client.ping()) for _ in range(3)]
            ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENCE)
        assert ends[:2] == [{"pid": 7}] * 2
        assert isinstance(ends[2], HacdError)

    with impostor(path, 3, lambda numbers: responses(numbers[:2]) + broken):
        asyncio.run(work())
