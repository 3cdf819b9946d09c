"""Blocks of an arena: no byte is in two, nothing of them is lost, and no more comes to be resident than was allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from hacd.worker.blocks import LEAST, WORTH, Blocks

#: the same examples each time, however slow the machine is
STATEFUL = settings(
    deadline=None,
    derandomize=True,
    max_examples=200,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow],
)

#: of an arena so small that there are never so many holes that they are not looked at
PARTS = WORTH

#: of blocks: small ones as often as large ones
SIZES = st.builds(lambda power, less: (LEAST << power) - less, st.integers(0, 5), st.integers(0, LEAST - 1))


def parts(begin: int, length: int) -> range:
    """What of LEAST bytes each that range is."""
    return range(begin // LEAST, (begin + length) // LEAST)


class BlocksAgainstSets(RuleBasedStateMachine):
    """Whatever is done, what is taken and what is resident are what two sets would have."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.blocks = Blocks(1)
        self.lengths: dict[int, int] = {}
        self.busy: set[int] = set()
        self.resident: set[int] = set()
        self.peak = self.most = self.idle = 0  # `most`: that was taken at once, ever

    @initialize(size=SIZES.map(lambda size: PARTS * LEAST // 2 + size // 2))
    def begin(self, size: int) -> None:
        self.blocks = Blocks(size)
        assert self.blocks.size >= size
        assert self.blocks.size.bit_count() == 1

    @rule(target=taken, size=SIZES, more=st.just(PARTS * LEAST) | SIZES)
    def take(self, size: int, more: int) -> Any:
        most = self.blocks.resident + more
        begin = self.blocks.take(size, most)
        if begin < 0:
            if most >= self.blocks.size:
                assert self.places(size) == []
            return multiple()  # nothing
        self.resident |= self.now_busy(begin, size)
        assert self.blocks.resident <= most
        return begin

    @rule(target=taken, size=SIZES)
    def take_resident(self, size: int) -> Any:
        begin = self.blocks.take_resident(size)
        if begin < 0:
            return multiple()
        assert self.now_busy(begin, size) <= self.resident
        return begin

    def now_busy(self, begin: int, size: int) -> set[int]:
        """That block was taken, of at least `size` bytes: the parts of it, which nobody had."""
        length = self.blocks.length(begin)
        assert length >= size
        assert begin % length == 0
        assert self.busy.isdisjoint(parts(begin, length))
        self.lengths[begin] = length
        self.busy.update(parts(begin, length))
        assert max(self.busy) < self.blocks.size // LEAST
        self.peak = max(self.peak, self.blocks.used)
        self.most = max(self.most, self.peak)
        return set(parts(begin, length))

    def places(self, size: int) -> list[int]:
        """Where a block of so many bytes could be."""
        length = max(LEAST, 1 << (size - 1).bit_length())
        begins = range(0, self.blocks.size - length + 1, length)
        return [begin for begin in begins if self.busy.isdisjoint(parts(begin, length))]

    @rule(begin=consumes(taken))
    def give_back(self, begin: int) -> None:
        self.blocks.give_back(begin)
        self.busy.difference_update(parts(begin, self.lengths.pop(begin)))
        with pytest.raises(KeyError):
            self.blocks.give_back(begin)

    @rule()
    def trim(self) -> None:
        removed: list[int] = []
        self.blocks.trim(lambda begin, length: removed.extend(parts(begin, length)))
        assert len(removed) == len(set(removed))
        assert self.resident - self.busy <= set(removed)
        assert self.busy.isdisjoint(removed)
        self.resident = set(self.busy)

    @rule()
    def look(self) -> None:
        assert self.blocks.look() == self.peak
        self.idle = 0 if self.peak else self.idle + 1
        assert self.blocks.idle == self.idle
        self.peak = self.blocks.used

    @invariant()
    def same(self) -> None:
        assert self.blocks.used == sum(self.lengths.values()) == LEAST * len(self.busy)
        assert self.blocks.resident == LEAST * len(self.resident) <= 2 * self.most

    def teardown(self) -> None:
        for begin in self.lengths:
            self.blocks.give_back(begin)
        assert self.blocks.used == 0
        assert self.blocks.take(self.blocks.size, self.blocks.size) == 0  # halves have become wholes again


TestBlocksAgainstSets = BlocksAgainstSets.TestCase
TestBlocksAgainstSets.settings = STATEFUL


def test_no_more_than_it_may_reach() -> None:
    blocks = Blocks(64 * LEAST)
    assert blocks.take(4 * LEAST, 4 * LEAST) == 0
    assert blocks.take(4 * LEAST, 4 * LEAST) == -1
    assert (blocks.used, blocks.resident) == (4 * LEAST, 4 * LEAST)
    assert blocks.take(4 * LEAST, 8 * LEAST) == 4 * LEAST
    blocks.give_back(0)
    assert blocks.take(LEAST, 8 * LEAST) == 0  # what was taken before comes first


def test_what_is_not_removed_stays_resident() -> None:
    blocks = Blocks(4 * LEAST)
    begins = [blocks.take(LEAST, 4 * LEAST) for _ in range(4)]
    blocks.give_back(begins[0])
    blocks.give_back(begins[2])
    removed: list[int] = []

    def remove(begin: int, _length: int) -> None:
        if removed:
            raise OSError(1, "Operation not permitted")
        removed.append(begin)

    with pytest.raises(OSError, match="not permitted"):
        blocks.trim(remove)
    assert (blocks.used, blocks.resident) == (2 * LEAST, 3 * LEAST)
    assert blocks.slack
    blocks.trim(lambda begin, _length: removed.append(begin))
    assert sorted(removed) == [begins[0], begins[2]]
    assert blocks.resident == blocks.used
    assert not blocks.slack
