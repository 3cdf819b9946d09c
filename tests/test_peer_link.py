"""What one front does with what another says, or does not say: the test plays the other."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacd import rpc
from hacd.channel import Channel
from hacd.errors import Refused
from hacd.front.owner import Peer
from hacd.front.peers import link as link_
from hacd.front.peers.link import SILENT
from hacd.front.peers.offer import NOTED, claim
from hacd.front.peers.offers import GO_ON, OFFERED
from hacd.front.peers.peers import Peers
from hacd.front.peers.questions import AGAIN, Answer, Asked, Questions
from hacd.front.sessions import Session
from hacd.outcome import begin, compose
from hacd.shared import TICKETS
from tests.support.front import REPLY, Rig
from tests.support.waiting import wait_for

MIB = 1 << 20
ME = Peer(os.getpid(), os.getuid(), os.getgid())
NUMBERS = (0, 0, 0, 0, 0, 0, 0, 0)


class Two(Rig):
    """Front 1 of two, and the test as front 2: `asked` is what it hears, `asks` where it speaks."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / "2"))
        self.listener.listen()
        paths = (str(directory / "1"), str(directory / "2"))
        self.peers = self.front.peers = Peers(self.loop, self.flusher, self.front, 1, paths)
        (self.link,) = self.peers.links.values()
        _, self.asks = self.worker()
        self.asks.send(msgpack.packb([0, "peer", {"number": 2, "pid": 1, "prefix": "x-"}]))
        self.link.dial()
        self.accept()

    def accept(self) -> None:
        """It has dialled, and hears who is there."""
        self.asked, _ = self.listener.accept()
        self.asked.settimeout(0)
        self.answer([2, "peer", [{"number": 2, "pid": 1, "prefix": "x-"}]])
        assert self.link.up
        self.heard()

    def answer(self, *messages: Any) -> None:
        self.asked.setblocking(True)
        self.asked.sendall(b"".join(map(msgpack.packb, messages)))
        self.asked.settimeout(0)
        self.turn()

    def heard(self) -> tuple[list[Any], list[int]]:
        """What it was asked and told since, and the tickets that came along."""
        unpacker, tickets = msgpack.Unpacker(max_buffer_size=0), array.array("i")
        while True:
            try:
                data, extra, _, _ = self.asked.recvmsg(MIB, socket.CMSG_SPACE(253 * 4))
            except BlockingIOError:
                return list(unpacker), list(tickets)
            for _, _, numbers in extra:
                tickets.frombytes(numbers)
            unpacker.feed(data)
            self.turn()

    def taker(self) -> None:
        """Somebody at front 2 takes R."""
        self.asks.send(msgpack.packb([2, "registered", [7, ME.uid, ["R"]]]))
        self.turn()

    def send(self, count: int, xdata: str = "") -> None:
        """So many queries of the caller's for R."""
        (session,) = self.front.sessions
        for _ in range(count):
            session.send(None, ["http://127.0.0.1/", {"route": "R", "xdata": xdata, "timeout": 60_000}])

    def resumed(self) -> int:
        """How many replies the caller got since."""
        self.turn()
        unpacker = msgpack.Unpacker(max_buffer_size=0)
        self.theirs.settimeout(0)
        with suppress(BlockingIOError):
            while data := self.theirs.recv(MIB):
                unpacker.feed(data)
                self.turn()
        self.theirs.settimeout(5)
        return sum(message[1] == "resume" for message in unpacker)

    def close(self) -> None:
        for sock in (self.asked, self.asks, self.listener):
            sock.close()
        super().close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with closing(Two(tmp_path)) as rig:
        yield rig


# -- what it says


WRONG: list[Any] = [
    [1, [], None, True],
    [1, "1", None, True],
    [1, 1, None],
    [1, 1, None, "yes"],
    [1, 1, None, None],
    [1, 1, "busy", None],
    [1, 1, {"code": 5}, None],
    [2, "peer", [{"prefix": "y-"}]],
    [2, "nonsense", []],
    5,
    {},
    [],
]


@pytest.mark.parametrize("message", WRONG, ids=repr)
def test_what_is_no_answer_costs_the_connection(two: Two, message: Any) -> None:
    later = two.peers.cancel(ME, "x-1")
    two.link._msgid = 0
    two.turn()
    two.answer(message)
    assert two.asked.recv(MIB)  # what it was asked
    assert not two.asked.recv(MIB)  # and the end
    assert not two.link.up
    heard: list[Any] = []
    later.then(lambda *answer: heard.append(answer))
    assert heard == [(False, None)]  # that front is gone, and so is the query


@pytest.mark.parametrize("result", [5, {}, {"uptime_ms": 1, "workers": [5], "fronts": []}, [], None], ids=repr)
def test_figures_of_nonsense(two: Two, result: Any) -> None:
    """They are left out, and the caller gets what is known."""
    later = two.peers.stats()
    two.turn()
    ((_, msgid, method, _),), _ = two.heard()
    assert method == "figures"
    two.answer([1, msgid, None, result])
    heard: list[Any] = []
    later.then(lambda stats, refusal: heard.append((stats["clients"], refusal)))
    assert heard == [(1, None)]
    assert not two.link.up


@pytest.mark.parametrize("params", [[], [{}], [{"prefix": 5}], [{"prefix": ""}], {"prefix": "x"}, [5], [{}, {}]])
def test_who_does_not_say_who_it_is(two: Two, params: Any) -> None:
    two.link._channel.break_off("test")  # type: ignore[union-attr]
    two.asked.close()
    two.link.dial()
    two.asked, _ = two.listener.accept()
    two.asked.sendall(msgpack.packb([2, "peer", params]))
    two.turn()
    assert not two.link.up


# -- what it does not say


def test_so_many_questions_and_no_more(two: Two) -> None:
    """Callers are told that it is busy, and not that their query is none of those in flight."""
    laters = [two.peers.cancel(ME, "x-1") for _ in range(link_.ASKED)]
    with pytest.raises(Refused, match=rf"busy: cancel: front 2, .* has {link_.ASKED} others to answer"):
        two.peers.cancel(ME, "x-1")
    messages: list[Any] = []
    while len(messages) < link_.ASKED:
        two.turn()
        messages += two.heard()[0]
    two.answer(*([1, msgid, None, True] for _, msgid, _, _ in messages))
    while not all(later.given for later in laters):
        two.turn()
    assert not two.peers.cancel(ME, "x-1").given


def test_silence_is_looked_at_once_a_second_where_nobody_else_would_take_it(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at each of them, 20 times a second, held the front that was not to blame."""
    look = Mock(wraps=two.peers.offers.has_next)
    monkeypatch.setattr(two.peers.offers, "has_next", look)
    two.taker()
    two.send(10)
    two.reply()
    (session,) = two.front.sessions
    session.channel.break_off("gone")
    due = max(asked.due for asked in two.link._questions._rows[10**9].values())
    for tick in range(20):
        two.link.expire(due + tick * 50_000_000)
    assert look.call_count == 10
    two.link.expire(due + AGAIN)
    assert look.call_count == 20
    assert two.peers.offers.open


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 30), st.sampled_from([10, 20, 50])),
            st.tuples(st.just("end"), st.integers(0, 30), st.just(0)),
            st.tuples(st.just("look"), st.integers(0, 1), st.integers(0, 40)),
        ),
        max_size=60,
    )
)
def test_each_question_is_due_at_its_time(steps: list[tuple[str, int, int]]) -> None:
    questions, due_of, now = Questions(), dict[int, int](), 0
    for what, number, value in steps:
        if what == "add" and number not in due_of:
            due_of[number] = now + value
            questions.add(number, Asked(now + value, "cancel", lambda _answer: None, lambda: True), value)
        elif what == "end" and number in due_of:
            del due_of[number]
            questions.end(number)
        elif what == "look":
            now += value
            due = questions.due(now)
            assert sorted(due) == sorted(each for each, when in due_of.items() if when <= now)
            for each in due:
                if number:
                    questions.put_back(each, now)
                    due_of[each] = now + AGAIN
                else:
                    questions.end(each)
                    del due_of[each]
        assert len(questions) == len(due_of)
        assert all((questions.find(each) is not None) == (each in due_of) for each in range(31))
    assert sorted(asked.due for asked in questions.end_all()) == sorted(due_of.values())
    assert not questions


def test_questions_end_when_the_connection_does(two: Two) -> None:
    heard: list[Answer] = []
    two.link.ask("unfinished", [], heard.append, 1000)
    two.turn()
    two.asked.close()
    two.turn()
    assert heard == [Answer(missing="is gone")]
    assert SILENT not in heard[0].missing
    two.link.ask("unfinished", [], heard.append, 1000)
    assert heard[1:] == [Answer(missing="is not there")]


# -- what is offered


def large(size: int) -> bytes:
    return compose(begin(0, None, 200, "OK", "1.1"), b"", bytes(size), NUMBERS, b"http://x/", b"")


def test_so_much_is_offered_and_the_rest_goes_to_its_sender(two: Two) -> None:
    two.taker()
    reply = large(MIB)
    most = OFFERED // (len(reply) + NOTED + 100)
    two.send(most + 5)
    for transaction in list(two.front.transactions):
        two.front._resume(transaction, 0, reply)
        two.resumed()
    assert two.peers.offers._count == most
    assert two.front.account.queries <= OFFERED


def test_offers_leave_a_quarter_of_max_memory(two: Two) -> None:
    """What callers have not read yet would be cut off for them."""
    two.taker()
    two.front.account.limit = 16 * MIB
    reply = large(MIB)
    two.send(14)
    for transaction in list(two.front.transactions):
        two.front._resume(transaction, 0, reply)
    assert two.peers.offers._count == 11
    assert two.resumed() == 3


def test_xdata_counts_as_what_is_offered(two: Two) -> None:
    two.taker()
    two.send(70, "x" * (MIB - 2000))
    held = two.front.account.queries
    two.reply()
    offers = two.peers.offers
    assert 60 <= offers._count < 65
    assert OFFERED - MIB < offers._bytes <= OFFERED
    assert two.front.account.queries == offers._bytes < held


def test_when_a_front_goes_its_offers_go_on_in_turns(two: Two) -> None:
    """All at once, thousands of them would hold all callers."""
    two.taker()
    two.send(3 * GO_ON)
    two.reply()
    offers = two.peers.offers
    box = offers._boxes[two.link]
    assert (len(box.open), len(box.waiting), two.resumed()) == (TICKETS, 3 * GO_ON - TICKETS, 0)
    two.link._channel.break_off("test")  # type: ignore[union-attr]
    given_back = []
    while offers.open:
        before = offers._count
        two.front.rota.turn()
        given_back.append(before - offers._count)
    assert max(given_back) == GO_ON
    assert two.resumed() == sum(given_back) == 3 * GO_ON
    assert two.front.account.queries == 0


def test_no_descriptor_is_left_for_a_ticket(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply of one who has gone waits for one: there is somebody who takes it."""
    two.taker()
    two.send(3)
    (session,) = two.front.sessions
    eventfd = os.eventfd

    def none_left(_value: int, _flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none_left)
    two.reply()
    session.channel.break_off("gone")
    two.turn()
    assert two.heard() == ([], [])
    assert two.peers.offers._count == 3
    monkeypatch.setattr(os, "eventfd", eventfd)
    messages: list[Any] = []
    tickets: list[int] = []
    while len(messages) < 3:
        two.turn()
        more, passed = two.heard()
        messages, tickets = messages + more, tickets + passed
    assert [method for _, _, method, _ in messages] == ["take"] * 3
    assert [claim(ticket) for ticket in tickets] == [True] * 3
    two.answer(*([1, msgid, None, True] for _, msgid, _, _ in messages))
    assert not two.peers.offers.open
    assert two.front.statistics.undelivered == 0
    for ticket in tickets:
        os.close(ticket)


def test_who_is_here_waits_a_second_for_a_descriptor(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_value: int, _flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none_left)
    two.taker()
    two.send(2)
    two.reply()
    assert two.resumed() == 0
    box = two.peers.offers._boxes[two.link]
    box._short_since -= 10**9
    box._try_again(None)
    two.turn()
    assert two.resumed() == 2
    assert not two.peers.offers.open


def test_a_shortage_that_is_over_does_not_shorten_the_next(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_value: int, _flags: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "eventfd", none_left)
    two.taker()
    box = two.peers.offers._boxes[two.link]
    two.send(1)
    two.reply()
    two.link.silent = True
    box.fell_silent()
    two.turn()
    assert two.resumed() == 1
    two.link.silent = False
    box._try_again(None)
    box._short_since -= 10**10 if box._short_since else 0  # as if it were long ago
    two.send(1)
    two.reply()
    box._try_again(None)
    two.turn()
    assert two.peers.offers.open


def test_what_waits_for_a_front_that_is_silent_lets_the_loop_rest(two: Two) -> None:
    """Its sender has gone, and nobody else would take it: a ticket that is free is its own, silent or not."""
    two.taker()
    first, second = socket.socketpair()
    here = Session(two.front, Channel(two.loop, two.flusher, first, rpc.Decoder(MIB), MIB), ME)
    gone = next(iter(two.front.sessions))
    two.front.welcome(here)
    for session, count in ((here, 2), (gone, TICKETS + 3)):
        for _ in range(count):
            session.send(None, ["http://127.0.0.1/", {"route": "R", "timeout": 60_000}])
    two.reply()
    gone.channel.break_off("gone")
    box = two.peers.offers._boxes[two.link]
    dues = sorted(asked.due for asked in two.link._questions._rows[10**9].values())
    for due in dues[:2]:  # those of the sender who is here
        two.link.expire(due)
        two.turn()
    assert (len(box.open), len(box.waiting)) == (TICKETS, 3)
    assert not two.front.rota.waiting
    here.channel.close()
    second.close()


class Three(Rig):
    """Front 1 of three, with takers of R at the two others: `asked` has how each offer to them, by number, ends."""

    def __init__(self) -> None:
        super().__init__()
        self.peers = self.front.peers = Peers(self.loop, self.flusher, self.front, 1, ("", "", ""))
        self.asked: dict[int, list[Any]] = {2: [], 3: []}
        for number, link in self.peers.links.items():
            link.prefix = f"{number}-"  # it is there
            link.ask = partial(self.ask, number)  # type: ignore[method-assign]
            self.peers.offers.registered(self.peers.offers.taker(link, ME.uid), ["R"])

    def ask(
        self, number: int, _method: str, _params: list[Any], then: Any, _limit: int, ticket: int, _end: Any
    ) -> None:
        os.close(ticket)
        self.asked[number].append(then)

    def send(self, count: int) -> None:
        """So many replies for R come, whose sender has gone."""
        (session,) = self.front.sessions
        for _ in range(count):
            session.send(None, ["http://127.0.0.1/", {"route": "R", "timeout": 60_000}])
        session.channel.break_off("gone")
        self.reply()


@pytest.fixture
def three() -> Iterator[Three]:
    with closing(Three()) as rig:
        yield rig


def test_a_front_that_is_silent_comes_behind_one_that_answers(three: Three) -> None:
    """Those whose senders have gone are for it where nobody else would take them: they may wait long."""
    three.peers.links[2].silent = True
    three.send(10)
    assert (len(three.asked[2]), len(three.asked[3])) == (0, 10)
    for then in three.asked[3]:
        then(Answer(False))
    three.turn()
    assert len(three.asked[2]) == 10
    assert three.peers.offers._count == 10
    for then in three.asked[2]:
        then(Answer(True))


def test_what_waits_for_two_that_are_silent_lets_the_loop_rest(three: Three) -> None:
    for link in three.peers.links.values():
        link.silent = True
    three.send(TICKETS + 10)
    for number in (2, 3):
        assert len(three.asked[number]) == TICKETS // 2
        three.asked[number][0](Answer(True))
    three.turn()
    assert [len(asked) for asked in three.asked.values()] == [TICKETS // 2 + 1] * 2
    assert not three.front.rota.waiting
    three.peers.offers.end_all()


def test_no_descriptor_is_left_to_dial_with(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a callback raises would end the front."""
    two.asked.close()
    two.turn()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Mock(side_effect=OSError(24, "Too many open files")))
        two.link.dial()
    two.listener.settimeout(0)
    dialled: list[socket.socket] = []

    def dials() -> bool:
        two.turn()
        with suppress(BlockingIOError):
            dialled.append(two.listener.accept()[0])
        return bool(dialled)

    wait_for("another attempt", dials)
    dialled[0].close()


def test_at_the_end_who_registered_here_comes_before_the_sender(two: Two) -> None:
    two.taker()
    two.send(2)
    two.reply()
    assert two.resumed() == 0
    two.theirs.sendall(rpc.request(1, "register", [["R"]]))
    two.turn()
    taken: list[bytes] = []
    (session,) = two.front.sessions
    two.front.registry.remove(session)
    two.front.registry.add(Here(taken), ["R"])  # type: ignore[arg-type]
    two.peers.offers.end_all()
    assert taken == [REPLY] * 2
    assert two.resumed() == 0


class Here:
    """One who registered at this front."""

    def __init__(self, taken: list[bytes]) -> None:
        self._taken = taken

    def may_take_from(self, _sender: Any) -> bool:
        return True

    def take_packed(self, outcome: bytes, _tail: bytes) -> bool:
        self._taken.append(outcome)
        return True
