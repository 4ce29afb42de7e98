"""Which connection gives up its place where another waits for one."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ngrokd.control.room import HURRY_S, InService, Room, make_a_place

NOW = 1000.0


class Pair:
    """A connection in service and its client."""

    def __init__(self, age: float) -> None:
        conn, self.client = socket.socketpair()
        self.served = InService(conn, NOW - age)

    def reads_the_end(self) -> bool:
        self.served.conn.setblocking(False)
        try:
            return self.served.conn.recv(1) == b""
        except BlockingIOError:
            return False

    def can_be_answered(self) -> bool:
        try:
            return self.served.conn.send(b"x") == 1 and self.client.recv(1) == b"x"
        except BrokenPipeError:
            return False

    def close(self) -> None:
        self.served.conn.close()
        self.client.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair(3 * HURRY_S), Pair(2 * HURRY_S), Pair(HURRY_S / 2)]
    yield made
    for pair in made:
        pair.close()


def look(pairs: list[Pair], room: Room, later: float = 0.0) -> list[bool]:
    """Who reads the end after one look more."""
    make_a_place((pair.served for pair in pairs), room, NOW + later)
    return [pair.reads_the_end() for pair in pairs]


def test_the_oldest_goes_first_and_a_new_one_may_still_send_its_request(pairs: list[Pair]) -> None:
    room = Room(3)
    assert look(pairs, room) == [True, False, False]
    assert look(pairs, room) == [True, True, False]
    assert look(pairs, room) == [True, True, False]
    assert look(pairs, room, later=HURRY_S) == [True, True, True]


def test_an_answer_that_is_on_its_way_is_not_lost(pairs: list[Pair]) -> None:
    look(pairs, Room(3), later=1e9)
    assert all(pair.can_be_answered() for pair in pairs)


def test_what_outstays_is_cut_where_that_has_a_bound(pairs: list[Pair]) -> None:
    look(pairs, Room(3, cut_s=2.5 * HURRY_S))
    assert [pair.can_be_answered() for pair in pairs] == [False, True, True]


def test_one_that_has_just_ended_by_itself_is_no_fault(pairs: list[Pair]) -> None:
    for pair in pairs:
        pair.close()
    make_a_place((pair.served for pair in pairs), Room(3, cut_s=HURRY_S), NOW + 1)
