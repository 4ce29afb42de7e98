"""Another program that takes our section away is met with patience, and a person with none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host.dispute import Dispute

POLL_S = 30.0


class War:
    """Another program that takes the section away before every look while `attacks`."""

    def __init__(self, poll_s: float = POLL_S) -> None:
        self.dispute = Dispute()
        self.poll_s = poll_s
        self.now = 1000.0
        self.there = True
        self.written: list[float] = []

    def look(self, attacks: bool) -> None:
        """One poll."""
        self.now += self.poll_s
        self.there = self.there and not attacks
        if self.there:
            self.dispute.kept(self.now)
            return
        self.dispute.lost(self.now)
        if not self.dispute.wait_s(self.now):
            self.dispute.put_back(self.now)
            self.there = True
            self.written.append(self.now)

    def looks(self, count: int, attacks: bool) -> None:
        """So many polls."""
        for _ in range(count):
            self.look(attacks)


def test_what_somebody_removes_once_or_twice_is_back_at_the_next_look_without_a_warning() -> None:
    war = War()
    for times in (1, 2):
        war.look(attacks=True)
        assert war.there and len(war.written) == times
        assert not war.dispute.is_on
        war.looks(2, attacks=False)


def test_the_third_time_is_told_and_each_wait_is_twice_the_last_up_to_ten_minutes() -> None:
    war = War()
    war.looks(2, attacks=True)
    assert not war.dispute.is_on
    war.look(attacks=True)
    assert war.dispute.is_on and not war.there
    war.looks(400, attacks=True)
    gaps = [round(b - a) for a, b in zip(war.written, war.written[1:])]
    # Each time it takes one look to see the loss, and then the wait.
    assert gaps[:7] == [30, 60, 90, 150, 270, 510, 630]
    assert set(gaps[7:]) == {630}


def test_it_is_over_once_the_section_was_left_alone_for_five_minutes() -> None:
    war = War()
    war.looks(20, attacks=True)
    while not war.there:
        war.look(attacks=False)
    war.looks(9, attacks=False)
    assert war.dispute.is_on
    war.look(attacks=False)
    assert not war.dispute.is_on
    written = len(war.written)
    war.look(attacks=True)
    assert war.there and len(war.written) == written + 1


def test_a_program_that_comes_by_every_half_hour_is_no_dispute() -> None:
    war = War()
    for times in range(1, 20):
        war.look(attacks=True)
        assert war.there and len(war.written) == times
        war.looks(60, attacks=False)
    assert not war.dispute.is_on


def test_between_looks_an_hour_apart_nothing_is_ever_waited_for_but_it_is_told() -> None:
    war = War(poll_s=3600.0)
    for _ in range(9):
        war.look(attacks=True)
        if not war.there:
            war.look(attacks=False)
    assert war.dispute.is_on
    assert len(war.written) == 9


def test_a_section_that_others_put_back_is_no_longer_waited_for() -> None:
    war = War()
    war.looks(3, attacks=True)
    assert not war.there
    war.there = True
    war.look(attacks=False)
    assert war.dispute.wait_s(war.now) == 0
    war.looks(10, attacks=False)
    assert not war.dispute.is_on


@given(st.lists(st.tuples(st.booleans(), st.floats(0.5, 4000)), max_size=60))
def test_writes_against_a_fast_opponent_are_bounded_and_the_section_comes_back(
    steps: list[tuple[bool, float]],
) -> None:
    war = War()
    for attacks, gap_s in steps:
        war.poll_s = gap_s
        war.look(attacks)
        assert 0 <= war.dispute.wait_s(war.now) <= 600
    war.poll_s = 600.0
    war.looks(2, attacks=False)
    assert war.there
    war.poll_s = 1.0
    before = len(war.written)
    war.looks(3600, attacks=True)
    assert len(war.written) - before <= 2 + 5 + 6  # at once, growing, and six an hour
