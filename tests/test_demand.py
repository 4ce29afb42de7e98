"""How many warm connections are worth having."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.forward.demand import GENERATIONS, MEMORY_S, MOST, SLOT_S, STEADY_S, Demand


def test_auto_wants_none_before_the_first_client() -> None:
    assert Demand("auto").wanted(0.0) == 0
    assert Demand("auto").next_change() is None


def test_auto_wants_as_many_as_came_at_once() -> None:
    demand = Demand("auto")
    for _ in range(6):
        demand.client(100.0)
    demand.client(100.0 + 2 * SLOT_S)

    assert demand.wanted(101.0) == 6


def test_auto_wants_fewer_once_the_crowd_is_long_ago_and_says_when_to_look() -> None:
    demand = Demand("auto")
    for _ in range(6):
        demand.client(100.0)
    demand.client(150.0)

    assert demand.next_change() == 100.0 + MEMORY_S
    assert demand.wanted(100.0 + MEMORY_S) == 1
    assert demand.next_change() == 150.0 + MEMORY_S
    assert demand.wanted(150.0 + MEMORY_S) == 0
    assert demand.next_change() is None


def test_auto_never_wants_more_than_its_bound() -> None:
    demand = Demand("auto")
    for _ in range(10 * MOST):
        demand.client(5.0)

    assert demand.wanted(5.0) == MOST


def test_what_must_be_replaced_often_is_soon_not_wanted_any_more() -> None:
    demand = Demand("auto")
    demand.client(100.0)

    assert demand.wanted(105.0, lifetime_s=1.5) == 1
    assert demand.next_change() == 100.0 + GENERATIONS * 1.5
    assert demand.wanted(100.0 + GENERATIONS * 1.5, lifetime_s=1.5) == 0


@pytest.mark.parametrize(("setting", "wanted"), [("off", 0), ("1", 1), ("1000", 1000)])
def test_a_setting_that_is_no_question_is_followed(setting: str, wanted: int) -> None:
    demand = Demand(setting)
    demand.client(0.0)

    assert demand.wanted(0.0) == demand.wanted(10 * MEMORY_S) == wanted


def test_a_number_of_those_that_live_shortly_is_kept_only_for_clients_who_come() -> None:
    demand = Demand("100")
    assert demand.wanted(50.0, lifetime_s=STEADY_S) == 100
    assert demand.wanted(50.0, lifetime_s=1.5) == 0

    for _ in range(3):
        demand.client(60.0)
    assert demand.wanted(60.0, lifetime_s=1.5) == 3
    assert demand.next_change() == 60.0 + GENERATIONS * 1.5
    assert demand.wanted(60.0 + GENERATIONS * 1.5, lifetime_s=1.5) == 0


@given(st.lists(st.floats(0.0, 300.0), max_size=60))
def test_auto_remembers_no_more_slots_than_its_memory_is_long(gaps: list[float]) -> None:
    demand, now = Demand("auto"), 0.0
    for gap in gaps:
        now += gap
        demand.client(now)
        assert 1 <= demand.wanted(now) <= MOST
        change = demand.next_change()
        assert change is not None and now < change <= now + MEMORY_S
    assert demand.wanted(now + MEMORY_S + SLOT_S) == 0
