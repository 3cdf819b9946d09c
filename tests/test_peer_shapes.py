"""What another front asks and tells, judged at the door: what comes through it raises nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacd.errors import ProtocolError
from hacd.front.peers.shapes import PARAMS, TOLD, question_of
from hacd.log.entry import Entry
from hacd.settings import Settings
from hacd.settings.live import dump

EVENT = Entry(1.0, "info", "front 2", 1, "", "", "a line").as_map()

RIGHT: list[list[Any]] = [
    [0, 1, "figures", []],
    [0, 1, "unfinished", []],
    [0, 1, "transactions", [0]],
    [0, 1, "cancel", ["x-1", 1, 0]],
    [0, 1, "judge", ["set", ["workers", 2]]],
    [0, 1, "judge", ["reload", [dump(Settings())]]],
    [0, 1, "change", ["uid 0 pid 1", 3]],
    [0, 1, "take", ["R", 0, b"", b""]],
    [2, "keep", []],
    [2, "registered", [7, 0, ["R"]]],
    [2, "left", [7]],
    [2, "log", [EVENT]],
]

WRONG: list[Any] = [
    5,
    [],
    [0, 1, "figures"],
    [0, None, "figures", []],
    [0, True, "figures", []],
    [1, 1, "figures", []],
    [0, 1, [], []],
    [0, 1, "nonsense", []],
    [0, 1, "figures", {}],
    [0, 1, "figures", [1]],
    [0, 1, "transactions", [True]],
    [0, 1, "judge", ["set", [1, 2]]],
    [0, 1, "judge", ["set", ["workers"]]],
    [0, 1, "judge", ["reload", [b"nonsense"]]],
    [0, 1, "judge", ["nonsense", []]],
    [0, 1, "left", [7]],  # nobody asks it
    [2, "cancel", ["x-1", 1, 0]],  # nobody tells it: who would hear that it is refused?
    [2, "judge", ["set", ["workers", 2]]],
    [2, "take", ["R", 0, b"", b""]],
    [2, "registered", [7, 0, [5]]],
    [2, "log", [{}]],
    [2, "log", [{**EVENT, "pid": "1"}]],
    [2, "log", [{**EVENT, "time": "now"}]],
    [2, "log", [{**EVENT, "time": "9999-12-31T23:59:59-14:00"}]],
    [2, "log", [{**EVENT, "time": "0001-01-01T00:00:00"}]],  # a time, and before all that can be told
]


@pytest.mark.parametrize("message", RIGHT, ids=repr)
def test_what_fronts_ask_and_tell(message: list[Any]) -> None:
    assert question_of(message)[1:] == tuple(message[-2:])


def test_each_of_them_is_asked_or_told() -> None:
    assert {message[-2] for message in RIGHT} == set(PARAMS)
    assert {message[-2] for message in RIGHT if message[0] == 2} == TOLD


@pytest.mark.parametrize("message", WRONG, ids=repr)
def test_what_no_front_asks(message: Any) -> None:
    with pytest.raises(ProtocolError):
        question_of(message)


@given(
    st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]([+-][0-2][0-9]:00|Z)?", fullmatch=True
    )
)
def test_a_time_that_comes_through_can_be_told(time: str) -> None:
    event = {**EVENT, "time": time}
    try:
        question_of([2, "log", [event]])
    except ProtocolError:
        return
    assert Entry.of(event).as_map()["message"] == "a line"
