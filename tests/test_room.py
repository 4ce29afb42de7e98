"""Which connection gives up its place where another waits for one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Optional

import pytest

from ngrokd.control.room import HURRY_S, Room, make_a_place
from ngrokd.control.visit import Dismissed, Phase, Visit


class Pair:
    """A connection in service and its client."""

    def __init__(self, phase: Phase = Phase.AWAITED) -> None:
        conn, self.client = socket.socketpair()
        self.visit = Visit(conn)
        self.visit.now(phase)

    def is_sent_away(self) -> bool:
        try:
            self.visit.receive(time.monotonic() + 0.01)
        except Dismissed:
            return True
        except TimeoutError:
            pass
        return False

    def can_be_answered(self) -> bool:
        try:
            return self.visit.conn.send(b"x") == 1 and self.client.recv(1) == b"x"
        except BrokenPipeError:
            return False

    def close(self) -> None:
        self.visit.conn.close()
        self.client.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair(), Pair(), Pair()]
    yield made
    for pair in made:
        pair.close()


def look(pairs: list[Pair], after: float, room: Optional[Room] = None) -> list[bool]:
    """Who is sent away by one look more, so long after the youngest one began."""
    now = pairs[-1].visit.standing[1] + after
    make_a_place((pair.visit for pair in pairs), room or Room(3), now)
    return [pair.is_sent_away() for pair in pairs]


def test_the_one_that_is_waited_for_longest_goes_first(pairs: list[Pair]) -> None:
    pairs[0].visit.now(Phase.AWAITED)
    pairs.append(pairs.pop(0))
    assert look(pairs, HURRY_S) == [True, False, False]
    assert look(pairs, HURRY_S) == [True, True, False]
    assert look(pairs, HURRY_S) == [True, True, True]
    assert look(pairs, HURRY_S) == [True, True, True]


def test_a_new_one_may_still_send_its_request(pairs: list[Pair]) -> None:
    assert look(pairs, HURRY_S / 2) == [False, False, False]


def test_whoever_waits_is_told_when_to_look_again(pairs: list[Pair]) -> None:
    visits = [pair.visit for pair in pairs]
    oldest = visits[0].standing[1]
    wait = make_a_place(visits, Room(3), oldest + 0.01)
    assert wait is not None
    assert wait == pytest.approx(HURRY_S - 0.01)
    for visit in visits:
        visit.now(Phase.SERVED)
    assert make_a_place(visits, Room(3), oldest + 1e9) is None


def test_who_is_served_stays_and_is_answered(pairs: list[Pair]) -> None:
    for pair in pairs:
        pair.visit.now(Phase.SERVED)
    assert look(pairs, 1e9, Room(3, cut_s=1)) == [False, False, False]
    assert all(pair.can_be_answered() for pair in pairs)


def test_who_was_sent_away_while_its_request_came_is_still_answered(pairs: list[Pair]) -> None:
    look(pairs, 1e9)
    assert pairs[0].can_be_answered()


def test_who_does_not_take_its_answer_is_cut_where_that_has_a_bound(pairs: list[Pair]) -> None:
    pairs[0].visit.now(Phase.TAKING)
    pairs[1].visit.now(Phase.SERVED)
    pairs[2].visit.now(Phase.TAKING)
    look(pairs, 1e9)
    assert [pair.can_be_answered() for pair in pairs] == [True, True, True]
    look(pairs, 1.0, Room(3, cut_s=1.0))
    assert [pair.can_be_answered() for pair in pairs] == [False, True, False]


def test_one_that_has_just_ended_by_itself_is_no_fault(pairs: list[Pair]) -> None:
    pairs[2].visit.now(Phase.TAKING)
    for pair in pairs:
        pair.close()
    for _ in pairs:
        make_a_place((pair.visit for pair in pairs), Room(3, cut_s=1), time.monotonic() + 2)
    assert all(pair.visit.dismissed for pair in pairs)
