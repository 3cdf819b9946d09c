"""What decides in the front: the hash, the deadlines and the dispatch, with neither socket nor clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hacd.front import dispatch
from hacd.front.deadlines import RESOLUTION, SLACK, Deadlines
from hacd.front.dispatch import BUSY, Dispatch
from hacd.front.transactions import CHAINED, Transaction, Transactions
from hacd.ledger import SLOT_BITS, SLOT_MASK
from hacd.settings import slots

#: the same examples each time, however slow the machine is
STATEFUL = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow],
)

# -- the hash


@pytest.mark.parametrize(
    ("size", "rounded"),
    [(1, 1), (2, 2), (3, 2), (4, 4), (1023, 512), (1024, 1024), (1025, 1024), (1_048_576, 1_048_576)],
)
def test_slots(size: int, rounded: int) -> None:
    assert slots(size) == rounded


def test_largest_hash_leaves_the_chained_slot_alone() -> None:
    assert slots(1_048_576) <= CHAINED


def test_suspend_find_release() -> None:
    hash_ = Transactions(4)
    transaction = hash_.suspend()
    assert transaction.id > 0
    assert hash_.find(transaction.id) is transaction
    id_ = transaction.id
    hash_.release(transaction)
    assert hash_.find(id_) is None
    assert len(hash_) == 0


@pytest.mark.parametrize("size", [1, 2, 8])
def test_ids_never_repeat(size: int) -> None:
    hash_ = Transactions(size)
    seen: set[int] = set()
    for _ in range(1000):
        held = [hash_.suspend() for _ in range(2 * size)]
        seen.update(transaction.id for transaction in held)
        for transaction in held:
            hash_.release(transaction)
    assert len(seen) == 1000 * 2 * size
    assert 0 not in seen  # a worker's own word has it
    assert [hash_.find(id_) for id_ in seen if hash_.find(id_)] == []


def test_stale_id_of_a_reused_slot_finds_nothing() -> None:
    hash_ = Transactions(1)
    first = hash_.suspend()
    stale = first.id
    hash_.release(first)
    second = hash_.suspend()
    assert stale & SLOT_MASK == second.id & SLOT_MASK
    assert hash_.find(stale) is None
    assert hash_.find(second.id) is second


def test_id_of_a_free_slot_finds_nothing() -> None:
    """The next id of a slot can be guessed; nobody is resumed by it."""
    hash_ = Transactions(4)
    for slot in range(4):
        for generation in range(3):
            assert hash_.find(generation << SLOT_BITS | slot) is None


@pytest.mark.parametrize("id_", [0, -1, 1, CHAINED, 2**63, 2**200, -(2**63)])
def test_id_that_nobody_has(id_: int) -> None:
    hash_ = Transactions(2)
    for _ in range(4):
        hash_.suspend()
    assert hash_.find(id_) is None


def test_more_transactions_than_slots() -> None:
    hash_ = Transactions(4)
    held = [hash_.suspend() for _ in range(100)]
    assert len({transaction.id for transaction in held}) == 100
    assert all(hash_.find(transaction.id) is transaction for transaction in held)
    assert len(hash_) == hash_.live == 100
    ids = [transaction.id for transaction in held]
    for transaction in held:
        hash_.release(transaction)
    assert [hash_.find(id_) for id_ in ids] == [None] * 100
    assert (len(hash_), list(hash_)) == (0, [])
    assert hash_.suspend().id & SLOT_MASK < 4  # back in the slots


def test_release_lets_go_of_what_the_record_held() -> None:
    hash_ = Transactions(1)
    transaction = hash_.suspend()
    transaction.session = transaction.worker = object()
    transaction.xdata = b"x" * 1000
    transaction.url = "http://x/" + "x" * 1000
    hash_.release(transaction)
    assert (transaction.session, transaction.worker, transaction.xdata, transaction.url) == (None, None, b"", "")


def test_iteration_survives_a_release_on_the_way() -> None:
    hash_ = Transactions(4)
    for _ in range(8):
        hash_.suspend()
    for transaction in hash_:
        hash_.release(transaction)
    assert list(hash_) == []


class HashAgainstDict(RuleBasedStateMachine):
    """Whatever is done, the hash holds what a dictionary would."""

    held = Bundle("held")
    stale = Bundle("stale")

    def __init__(self) -> None:
        super().__init__()
        self.hash = Transactions(4)
        self.model: dict[int, Transaction] = {}
        self.seen: set[int] = set()

    @rule(target=held)
    def suspend(self) -> Transaction:
        transaction = self.hash.suspend()
        assert transaction.id not in self.seen
        self.seen.add(transaction.id)
        self.model[transaction.id] = transaction
        return transaction

    @rule(target=stale, transaction=consumes(held))
    def release(self, transaction: Transaction) -> int:
        id_ = transaction.id
        self.hash.release(transaction)
        del self.model[id_]
        return id_

    @rule(id_=stale)
    def find_stale(self, id_: int) -> None:
        assert self.hash.find(id_) is None

    @rule(generation=st.integers(0, 40), slot=st.sampled_from([0, 1, 2, 3, 4, CHAINED]))
    def find_any(self, generation: int, slot: int) -> None:
        id_ = generation << SLOT_BITS | slot
        assert self.hash.find(id_) is self.model.get(id_)

    @invariant()
    def same(self) -> None:
        assert len(self.hash) == self.hash.live == len(self.model)
        assert {transaction.id: transaction for transaction in self.hash} == self.model
        assert all(self.hash.find(id_) is transaction for id_, transaction in self.model.items())


TestHashAgainstDict = HashAgainstDict.TestCase
TestHashAgainstDict.settings = STATEFUL


# -- deadlines


@pytest.mark.parametrize("due", [0, 1, 3, 4, 5, 999, 1000, 86_400_000])
def test_never_early_and_due_within_the_resolution(due: int) -> None:
    deadlines: Deadlines[Transaction] = Deadlines()
    transaction = Transaction(1)
    deadlines.add(transaction, due)
    assert deadlines.due(due) == []
    soonest = deadlines.next()
    assert soonest is not None
    assert due < soonest <= due + RESOLUTION
    assert deadlines.due(soonest - 1) == []
    assert deadlines.due(soonest) == [transaction]


def test_due_are_given_once_and_live_until_removed() -> None:
    deadlines: Deadlines[Transaction] = Deadlines()
    late = [Transaction(number) for number in range(3)]
    for transaction in late:
        deadlines.add(transaction, 100)
    assert set(deadlines.due(200)) == set(late)
    assert deadlines.due(200) == []
    assert len(deadlines) == 3
    for transaction in late:
        deadlines.remove(transaction)
    assert len(deadlines) == 0


def test_deadline_in_a_bucket_that_was_due_already() -> None:
    """A record whose bucket was taken out is removed, while another lies in a new bucket of that number."""
    deadlines: Deadlines[Transaction] = Deadlines()
    late, later = Transaction(1), Transaction(2)
    deadlines.add(late, 100)
    assert deadlines.due(200) == [late]
    deadlines.add(later, 101)
    deadlines.remove(late)
    assert deadlines.next() == 104
    assert deadlines.due(200) == [later]


def test_oldest_first() -> None:
    deadlines: Deadlines[Transaction] = Deadlines()
    transactions = {due: Transaction(due) for due in (900, 100, 500, 300, 700)}
    for due, transaction in transactions.items():
        deadlines.add(transaction, due)
    assert [transaction.id for transaction in deadlines.due(510)] == [100, 300, 500]
    assert [transaction.id for transaction in deadlines.due(1000)] == [700, 900]


def test_next() -> None:
    deadlines: Deadlines[Transaction] = Deadlines()
    assert deadlines.next() is None
    near, far = Transaction(1), Transaction(2)
    deadlines.add(far, 1000)
    assert deadlines.next() == 1004
    deadlines.add(near, 100)
    assert deadlines.next() == 104
    deadlines.remove(near)
    assert deadlines.next() == 1004
    deadlines.remove(far)
    assert deadlines.next() is None
    deadlines.add(near, 100)  # in a bucket that was there before
    assert deadlines.next() == 104


def test_record_is_used_again() -> None:
    deadlines: Deadlines[Transaction] = Deadlines()
    transaction = Transaction(1)
    for due in range(0, 5000, 7):
        deadlines.add(transaction, due)
        assert deadlines.due(due + RESOLUTION) == [transaction]
        deadlines.remove(transaction)
        assert deadlines.due(due + RESOLUTION) == []
    assert len(deadlines) == 0


@pytest.mark.parametrize("held", [0, 10, 1000])
def test_far_deadlines_that_come_and_go_leave_no_memory(held: int) -> None:
    """A day's deadline whose query ends at once: nobody asks for `next` in between."""
    deadlines: Deadlines[Transaction] = Deadlines()
    for number in range(held):
        deadlines.add(Transaction(number), number * RESOLUTION)
    transaction = Transaction(held)
    for number in range(20_000):
        deadlines.add(transaction, 86_400_000 + number * RESOLUTION)
        deadlines.remove(transaction)
        assert len(deadlines._buckets) <= 2 * held + SLACK + 1
        assert len(deadlines._order) == len(deadlines._buckets)
    assert len(deadlines) == held
    assert len(deadlines.due(held * RESOLUTION)) == held


class DeadlinesAgainstDict(RuleBasedStateMachine):
    """Time goes on; whoever is due is found, and nobody else."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: Deadlines[Transaction] = Deadlines()
        self.model: dict[Transaction, int] = {}
        self.now = 1000
        self.count = 0

    @rule(target=held, wait=st.integers(0, 5000))
    def add(self, wait: int) -> Transaction:
        transaction = Transaction(self.count)
        self.count += 1
        self.deadlines.add(transaction, self.now + wait)
        self.model[transaction] = self.now + wait
        return transaction

    @rule(transaction=consumes(held))
    def remove(self, transaction: Transaction) -> None:
        if self.model.pop(transaction, None) is not None:
            self.deadlines.remove(transaction)

    @rule()
    def sweep(self) -> None:
        self.deadlines._sweep()

    @rule(wait=st.integers(0, 700))
    def wait(self, wait: int) -> None:
        self.now += wait
        late = self.deadlines.due(self.now)
        assert len(late) == len(set(late))
        for transaction in late:
            assert self.model.pop(transaction) < self.now
            self.deadlines.remove(transaction)
        assert all(self.now < due + RESOLUTION for due in self.model.values())

    @rule()
    def next(self) -> None:
        soonest = self.deadlines.next()
        if not self.model:
            assert soonest is None
            return
        assert soonest is not None
        assert 0 < soonest - min(self.model.values()) <= RESOLUTION
        assert self.deadlines.due(min(self.now, soonest - 1)) == []

    @invariant()
    def same(self) -> None:
        assert len(self.deadlines) == len(self.model)


TestDeadlinesAgainstDict = DeadlinesAgainstDict.TestCase
TestDeadlinesAgainstDict.settings = STATEFUL


# -- dispatch


@dataclass(eq=False)
class Worker:
    """As much of a worker as dispatch looks at."""

    in_flight: int = 0


def dispatch_to(*in_flight: int) -> tuple[Dispatch[Worker], list[Worker]]:
    """A dispatch with workers that have so much to do."""
    chooser: Dispatch[Worker] = Dispatch()
    workers = [Worker(load) for load in in_flight]
    for worker in workers:
        chooser.add(worker)
    return chooser, workers


def test_no_worker() -> None:
    chooser, [worker] = dispatch_to(0)
    chooser.remove(worker)
    chooser.remove(worker)
    assert Dispatch[Worker]().choose("http://a") is None
    assert chooser.choose("http://a") is None


@pytest.mark.parametrize("load", [0, BUSY, 100_000])
def test_one_worker_gets_all(load: int) -> None:
    chooser, [worker] = dispatch_to(load)
    assert {chooser.choose(f"http://{number}") for number in range(10)} == {worker}


def test_new_origin_goes_to_the_least_loaded() -> None:
    chooser, workers = dispatch_to(3, 1, 2)
    assert chooser.choose("http://a") is workers[1]


def test_home_is_preferred() -> None:
    chooser, [home, other] = dispatch_to(0, 5)
    assert chooser.choose("http://a") is home
    home.in_flight, other.in_flight = BUSY - 1, 0
    assert chooser.choose("http://a") is home
    assert chooser.choose("http://b") is other


def test_busy_home_spills_and_gets_its_origin_back() -> None:
    chooser, [home, middle, least] = dispatch_to(0, 9, 9)
    assert chooser.choose("http://a") is home
    home.in_flight, middle.in_flight, least.in_flight = BUSY, 9, 3
    assert chooser.choose("http://a") is least
    home.in_flight = BUSY - 1
    assert chooser.choose("http://a") is home


def test_where_all_are_busy_the_least_loaded_gets_it() -> None:
    chooser, [home, other] = dispatch_to(0, 9)
    chooser.choose("http://a")
    home.in_flight, other.in_flight = BUSY, BUSY + 5
    assert chooser.choose("http://a") is home


def test_load_spreads() -> None:
    chooser, workers = dispatch_to(0, 0, 0)
    for _ in range(3 * 2 * BUSY):
        chosen = chooser.choose("http://a")
        assert chosen is not None
        chosen.in_flight += 1
    assert [worker.in_flight for worker in workers] == [2 * BUSY] * 3


def test_removed_worker_is_forgotten() -> None:
    chooser, [home, other, third] = dispatch_to(0, 1, 2)
    assert chooser.choose("http://a") is home
    chooser.remove(home)
    assert chooser.choose("http://a") is other
    chooser.add(home)  # it has no connections now
    other.in_flight = BUSY - 1
    assert chooser.choose("http://a") is other
    assert third in chooser.workers


def test_origins_are_bounded() -> None:
    chooser, [home, other] = dispatch_to(0, 1)
    for number in range(dispatch.ORIGINS + 10):
        assert chooser.choose(f"http://{number}") is home
        assert len(chooser._homes) <= dispatch.ORIGINS
    home.in_flight = 2
    assert chooser.choose("http://0") is other  # forgotten
    assert chooser.choose(f"http://{dispatch.ORIGINS}") is home
