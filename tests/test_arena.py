"""Bodies in arenas: each is there as it came, nothing of them is lost, and no more memory is taken than was allowed."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from hacd.arena import COMMON, FILE, Block, mapped
from hacd.settings import Settings
from hacd.shared import ARENAS
from hacd.worker.arena import Arena
from hacd.worker.blocks import LEAST
from hacd.worker.bodies import EAGER, LOOK, Body
from hacd.worker.memory import IDLE, Memory

KIB, MIB = 1024, 1024 * 1024
OWN = FILE + 1


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory(Settings())
    assert memory.renew() is not None
    yield memory
    memory.reset()


def incoming(memory: Memory, into: int, length: int | None = None) -> Body:
    """A body on its way, of whatever length it says."""
    head = [] if length is None else [b"HTTP/1.1 200 OK\r\n", b"Content-Length: %d\r\n" % length]
    body = Body(memory, 16 * MIB, (16 * KIB, 128 * KIB), head, pause=lambda: None)
    body.into = into
    return body


def finished(body: Body) -> Block:
    block = body.finish()
    assert isinstance(block, Block)
    return block


def arrive(body: Body, data: bytes) -> None:
    for place in range(0, len(data), 16 * KIB):
        assert body.add(data[place : place + 16 * KIB]) is None


def test_who_finds_no_room_does_not_search_all_each_time(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among many small holes, each body that found no room held a worker: for 36 ms with 1 GiB."""
    assert memory._common is not None
    blocks = memory._common.blocks
    small = _fill(memory, LEAST)
    for begin in small[::2]:
        blocks.give_back(begin)
    large = _fill(memory, MIB)  # elsewhere, and the holes stay
    merges = 0
    merge = blocks._merge

    def counted() -> None:
        nonlocal merges
        merges += 1
        merge()

    monkeypatch.setattr(blocks, "_merge", counted)
    for begin in small[1:101:2]:
        blocks.give_back(begin)
        assert memory.block(MIB, COMMON) is None
    assert merges < 3
    for begin in (*small[101::2], *large):
        blocks.give_back(begin)
    assert memory.block(memory._share, COMMON) is not None


def _fill(memory: Memory, size: int) -> list[int]:
    """Where blocks begin of which there is no room for one more."""
    begins = []
    while (found := memory.block(size, COMMON)) is not None:
        begins.append(found[1])
    return sorted(begins)


def test_one_that_stays_keeps_nothing_but_itself(memory: Memory) -> None:
    """Wherever it lies."""
    bodies = [incoming(memory, COMMON, MIB) for _ in range(8)]
    for body in bodies:
        arrive(body, bytes(MIB))
    for body in bodies[:-1]:
        body.drop()
    memory.look()
    memory.look()
    common = memory._common
    assert common is not None
    assert os.fstat(common.fd).st_blocks * 512 == common.blocks.resident == common.blocks.used == MIB
    bodies[-1].drop()


@pytest.mark.parametrize("workers", [1, 3, 6, 7])
def test_one_small_body_leaves_room_for_others(workers: int) -> None:
    settings = Settings()
    memory = Memory(replace(settings, http_async_client=replace(settings.http_async_client, workers=workers)))
    memory.renew()
    body, other = incoming(memory, COMMON, 16 * KIB), incoming(memory, OWN, 64 * KIB)
    arrive(body, bytes(16 * KIB))
    arrive(other, bytes(64 * KIB))
    assert memory._share - memory._room() == 96 * KIB
    assert memory.take(memory._share - 96 * KIB, new=True)
    assert not memory.take(1, new=True)
    body.drop()
    other.drop()
    memory.reset()


def test_what_a_peak_took_goes_back_to_the_system(memory: Memory) -> None:
    bodies = [incoming(memory, COMMON, MIB) for _ in range(8)]
    for body in bodies:
        arrive(body, bytes(MIB))
    common = memory._common
    assert common is not None
    assert os.fstat(common.fd).st_blocks * 512 == common.blocks.resident == 8 * MIB
    memory.look()
    for body in bodies:
        body.drop()
    memory.look()
    memory.look()
    assert (os.fstat(common.fd).st_blocks, common.blocks.resident) == (0, 0)


def test_what_is_lent_can_be_read_and_not_written() -> None:
    arena = Arena(MIB, OWN)
    begin = arena.blocks.take(LEAST, MIB)
    arena.view[begin : begin + 4] = b"body"
    arena.blocks.give_back(arena.blocks.take(LEAST, MIB))
    theirs = mapped(arena.fd, MIB)
    arena.view[begin : begin + 4] = b"next"
    assert bytes(theirs[begin : begin + 4]) == b"next"
    for way in (
        lambda: os.pwrite(arena.fd, b"x", 0),
        lambda: mmap.mmap(arena.fd, MIB),
        lambda: os.ftruncate(arena.fd, 0),
        lambda: os.posix_fallocate(arena.fd, 0, 2 * MIB),
        arena.trim,
    ):
        with pytest.raises(PermissionError):
            way()
    arena.close()
    assert bytes(theirs[begin : begin + 4]) == b"next"  # who has it mapped goes on reading


@pytest.mark.parametrize("into", [COMMON, OWN])
@pytest.mark.parametrize("size", [16 * KIB, 16 * KIB + 1, 100_000, MIB, MIB + 1, 5 * MIB])
@pytest.mark.parametrize("said", [True, False])
def test_every_byte_is_there(memory: Memory, into: int, size: int, said: bool) -> None:
    data = os.urandom(size)
    body = incoming(memory, into, size if said else None)
    arrive(body, data)
    block = finished(body)
    assert block.read() == data
    block.release()
    assert memory.fallbacks == 0
    assert all(arena.blocks.used == 0 for arena in (memory._common, *memory._own.values()) if arena is not None)


def test_a_length_that_is_a_lie(memory: Memory) -> None:
    body = incoming(memory, COMMON, 20_000)
    arrive(body, bytes(range(256)) * 400)
    block = finished(body)
    assert block.read() == bytes(range(256)) * 400
    block.release()


def test_announcing_takes_no_more_than_is_given_for_the_asking(memory: Memory) -> None:
    body = incoming(memory, COMMON, 16 * MIB)
    arrive(body, bytes(LOOK))
    assert memory._common is not None
    assert memory._common.blocks.used == EAGER
    body.drop()
    assert memory._common.blocks.used == 0


def test_max_body_is_exact_in_an_arena(memory: Memory) -> None:
    body = incoming(memory, COMMON, MIB)
    body._max_body = 100_000
    arrive(body, bytes(98304))
    assert body.add(bytes(100_000 - 98304)) is None
    assert (body.add(b"x"), body.over) == (0, True)
    body.drop()
    assert memory._common is not None
    assert memory._common.blocks.used == 0


def test_past_its_share_a_body_is_in_own_memory(memory: Memory) -> None:
    bodies = [incoming(memory, COMMON, MIB) for _ in range(memory._share // MIB)]
    for body in bodies:
        arrive(body, bytes(MIB))
    more = incoming(memory, COMMON, MIB)
    arrive(more, bytes(range(256)) * 4096)
    assert more.finish() is None
    assert more.heap == bytes(range(256)) * 4096
    assert memory.fallbacks == 1
    assert not memory.take(1, new=True)
    for body in bodies:
        body.drop()
    assert memory.take(MIB, new=True)  # what is free in the arena makes room
    memory.give_back(MIB)


def test_who_keeps_all_that_he_borrows_gets_bytes(memory: Memory) -> None:
    """He has half of the share, and what he keeps of it is lost to nobody else."""
    kept = []
    for _ in range(memory._share // 2 // MIB + 1):
        body = incoming(memory, OWN, MIB)
        arrive(body, bytes(MIB))
        kept.append(finished(body))
    assert [block.number for block in kept][-2:] == [OWN, COMMON]
    assert memory.fallbacks == 0
    other = incoming(memory, OWN + 1, 64 * KIB)
    arrive(other, bytes(64 * KIB))
    assert finished(other).number == COMMON  # all callers' arenas together have no more
    memory.leave(OWN)
    assert list(memory._own) == [OWN + 1]
    assert memory._share - memory._room() == MIB + 64 * KIB


def test_returned_is_only_what_was_lent(memory: Memory) -> None:
    body, other = incoming(memory, OWN, 64 * KIB), incoming(memory, OWN, 64 * KIB)
    arrive(body, b"1" * 64 * KIB)
    arrive(other, b"2" * 48 * KIB)  # on its way still
    block = finished(body)
    arena = memory._own[OWN]
    for begin in (*range(0, MIB, LEAST), -1, 1 << 62):
        memory.returned(OWN + 1, begin)
        if begin != block.begin:
            memory.returned(OWN, begin)
    assert arena.blocks.used == 128 * KIB
    memory.returned(OWN, block.begin)
    memory.returned(OWN, block.begin)
    assert arena.blocks.used == 64 * KIB
    arrive(other, b"2" * 16 * KIB)
    whole = finished(other)
    assert whole.read() == b"2" * 64 * KIB
    whole.release()


def test_a_caller_goes_while_his_body_comes(memory: Memory) -> None:
    """What was lent to him is nobody's any more; what is being written goes last."""
    body, other = incoming(memory, OWN, 64 * KIB), incoming(memory, OWN, 64 * KIB)
    arrive(body, bytes(64 * KIB))
    arrive(other, bytes(32 * KIB))
    finished(body)
    arena = memory._own[OWN]
    memory.leave(OWN)
    assert arena.blocks.used == 64 * KIB
    other.drop()
    with pytest.raises(ValueError, match="released memoryview"):
        arena.view[0]
    memory.returned(OWN, 0)
    assert not memory._own


def test_a_body_that_is_whole_when_its_caller_has_gone(memory: Memory) -> None:
    """The front lets go of it, and then all of the arena goes."""
    body, other = incoming(memory, OWN, 64 * KIB), incoming(memory, OWN, 64 * KIB)
    arrive(body, bytes(32 * KIB))
    memory.leave(OWN)
    arrive(other, bytes(64 * KIB))
    assert finished(other).number == COMMON  # nothing new is put there
    arrive(body, bytes(32 * KIB))
    block = finished(body)
    assert list(memory._own) == [OWN]
    block.release()
    assert not memory._own
    assert memory._share - memory._room() == 64 * KIB


def test_an_arena_without_use_is_given_up(memory: Memory) -> None:
    told: list[tuple[int, bool]] = []
    memory.on_arena = lambda arena: told.append((arena.number, True))
    memory.on_arena_left = lambda arena: told.append((arena.number, False))
    for _ in range(2):
        body = incoming(memory, OWN, 64 * KIB)
        arrive(body, bytes(64 * KIB))
        memory.look()
        memory.look()
        assert told[-1] == (OWN, True)
        body.drop()
        for _ in range(IDLE + 2):
            memory.look()
        assert told[-1] == (OWN, False)
    assert len(told) == 4
    assert memory._room() == memory._share


def test_no_more_arenas_than_descriptors_are_for(memory: Memory) -> None:
    bodies = [incoming(memory, OWN + number, 16 * KIB) for number in range(ARENAS + 1)]
    for body in bodies:
        arrive(body, bytes(16 * KIB))
    assert len(memory._own) == memory._arenas < len(bodies)
    last = finished(bodies[-1])
    assert last.number == COMMON
    last.release()
    for body in bodies:
        body.drop()


def test_a_system_that_gives_none(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none)
    body = incoming(memory, OWN, 64 * KIB)
    arrive(body, bytes(64 * KIB))
    block = finished(body)  # in the common one, which is there
    assert block.number == COMMON
    block.release()
    assert memory.renew() is None
    arrive(body, bytes(64 * KIB))
    assert body.finish() is None
    assert memory.fallbacks == 1
