"""A child's life: every arrow of the picture, and no other."""

from __future__ import annotations

import pytest

from hacd.supervisor.children import BACKOFF_FIRST, BACKOFF_MAX, QUICK, RETRIES, STEADY, Child, State

STARTING, RUNNING, BACKOFF, FATAL, STOPPING, ENDED = State

ARROWS = {
    (STARTING, RUNNING),
    (STARTING, BACKOFF),
    (STARTING, FATAL),
    (STARTING, STOPPING),
    (RUNNING, BACKOFF),
    (RUNNING, FATAL),
    (RUNNING, STOPPING),
    (BACKOFF, STARTING),
    (BACKOFF, ENDED),
    (FATAL, BACKOFF),
    (FATAL, ENDED),
    (STOPPING, ENDED),
}
EVERY = [(before, after) for before in State for after in State]


def child_in(state: State) -> Child:
    """A child that came there by what happened to it."""
    child = Child("worker 1", 1)
    if state in (STARTING, RUNNING, STOPPING):
        child.spawned(42, 100.0)
    if state is RUNNING:
        child.ready()
    if state in (STOPPING, ENDED):
        child.stopping()
    if state is FATAL:
        delays(child, RETRIES, 0.1)
    assert child.state is state
    return child


@pytest.mark.parametrize(("before", "after"), EVERY)
def test_every_arrow(before: State, after: State) -> None:
    child = child_in(before)
    if (before, after) in ARROWS:
        child.transition(after)
        assert child.state is after
        return
    with pytest.raises(ValueError, match=f"worker 1: {before.value} -> {after.value}"):
        child.transition(after)
    assert child.state is before


def test_new_child_is_due_at_once() -> None:
    child = Child("front", 0)
    assert (child.state, child.pid) == (BACKOFF, 0)
    assert child.is_due(0.0)


def test_spawned_and_ready() -> None:
    child = child_in(STARTING)
    assert (child.pid, child.started) == (42, 100.0)
    child.ready()
    assert child.state is RUNNING


@pytest.mark.parametrize("state", [RUNNING, BACKOFF, FATAL, STOPPING, ENDED])
def test_ready_of_one_that_does_not_start_changes_nothing(state: State) -> None:
    child = child_in(state)
    child.ready()
    assert child.state is state


@pytest.mark.parametrize("state", [STARTING, RUNNING, FATAL, STOPPING, ENDED])
def test_only_who_waits_is_due(state: State) -> None:
    assert not child_in(state).is_due(1e9)


@pytest.mark.parametrize("state", [STARTING, RUNNING, FATAL, STOPPING, ENDED])
def test_only_who_waits_is_spawned(state: State) -> None:
    with pytest.raises(ValueError, match="-> starting"):
        child_in(state).spawned(43, 101.0)


@pytest.mark.parametrize("state", [STARTING, RUNNING])
def test_died_is_due_later(state: State) -> None:
    child = child_in(state)
    child.died(101.0)
    assert (child.state, child.pid, child.due) == (BACKOFF, 0, 101.0 + BACKOFF_FIRST)
    assert not child.is_due(101.0 + BACKOFF_FIRST / 2)
    assert child.is_due(child.due)


@pytest.mark.parametrize("state", [BACKOFF, ENDED])
def test_nobody_dies_who_is_not_there(state: State) -> None:
    with pytest.raises(ValueError, match=f"{state.value} -> backoff"):
        child_in(state).died(101.0)


def test_stopping_then_died_has_ended() -> None:
    child = child_in(STOPPING)
    child.died(101.0)
    assert (child.state, child.pid) == (ENDED, 0)


@pytest.mark.parametrize(
    ("state", "after"),
    [(STARTING, STOPPING), (RUNNING, STOPPING), (BACKOFF, ENDED), (FATAL, ENDED), (STOPPING, STOPPING), (ENDED, ENDED)],
)
def test_told_to_stop(state: State, after: State) -> None:
    child = child_in(state)
    child.stopping()
    assert child.state is after


def delays(child: Child, lives: int, seconds: float) -> list[float]:
    """How long that child waits after each of so many lives of so many seconds."""
    found = []
    now = 0.0
    for _ in range(lives):
        child.spawned(42, now)
        child.ready()
        now += seconds
        child.died(now)
        found.append(child.due - now)
        now = child.due
    return found


def test_backoff_doubles_up_to_the_most() -> None:
    found = delays(Child("worker 1", 1), 20, QUICK)
    assert found == pytest.approx([min(BACKOFF_FIRST * 2**life, BACKOFF_MAX) for life in range(20)])
    assert found[-1] == pytest.approx(BACKOFF_MAX)


def test_backoff_begins_anew_after_a_steady_life() -> None:
    child = Child("worker 1", 1)
    assert delays(child, 5, 1.0)[-1] == pytest.approx(16 * BACKOFF_FIRST)
    assert delays(child, 3, STEADY) == pytest.approx([BACKOFF_FIRST] * 3)
    assert delays(child, 2, 1.0) == pytest.approx([2 * BACKOFF_FIRST, 4 * BACKOFF_FIRST])


def test_life_that_is_nearly_steady_is_not() -> None:
    assert delays(Child("worker 1", 1), 2, STEADY - 0.5) == pytest.approx([BACKOFF_FIRST, 2 * BACKOFF_FIRST])


def test_one_that_cannot_live_is_given_up_and_revived() -> None:
    child = Child("worker 1", 1)
    delays(child, RETRIES - 1, QUICK - 0.1)
    assert child.state is BACKOFF
    delays(child, 1, QUICK)  # it lived
    delays(child, RETRIES, QUICK - 0.1)
    assert (child.state, child.restarts) == (FATAL, 2 * RETRIES)
    child.revive(7.0)
    assert child.is_due(7.0)
    delays(child, RETRIES - 1, 0.1)
    assert child.state is BACKOFF
    child.revive(8.0)
    assert child.state is BACKOFF
