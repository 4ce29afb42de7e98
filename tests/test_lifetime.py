"""What a far side that drops waiting connections teaches."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngrokd.forward.lifetime import LESSON_S, MARGIN, OLDEST_S, SHORT_LIVES, Lesson, Lifetime


def test_without_a_drop_they_may_get_old() -> None:
    assert Lifetime().limit_s(0.0) == OLDEST_S
    assert Lifetime().forgotten_at() is None


def test_two_drops_at_the_same_age_are_a_rule() -> None:
    lifetime = Lifetime()

    assert lifetime.dropped(60.2, now=100.0) is None
    assert lifetime.dropped(60.0, now=160.0) == Lesson(MARGIN * 60.0, 160.0)
    assert lifetime.limit_s(161.0) == MARGIN * 60.0 < 60.0


def test_drops_at_different_ages_are_no_rule() -> None:
    lifetime = Lifetime()
    for moment, age in enumerate((300.0, 20.0, 90.0, 5.0)):
        assert lifetime.dropped(age, now=100.0 * moment) is None
    assert lifetime.limit_s(400.0) == OLDEST_S


def test_drops_at_one_moment_are_one_event_however_many() -> None:
    lifetime = Lifetime()
    for number in range(32):
        assert lifetime.dropped(40.0, now=100.0 + number / 100) is None
    assert lifetime.limit_s(101.0) == OLDEST_S


def test_a_shorter_rule_replaces_a_longer_one_and_not_the_other_way_round() -> None:
    lifetime = Lifetime()
    lifetime.dropped(60.0, now=0.0)
    lifetime.dropped(60.0, now=60.0)

    assert lifetime.dropped(58.0, now=120.0) == Lesson(MARGIN * 58.0, 120.0)
    assert lifetime.dropped(300.0, now=420.0) is None
    assert lifetime.dropped(300.0, now=720.0) is None
    assert lifetime.limit_s(721.0) == MARGIN * 58.0


def test_those_that_do_not_live_a_second_are_not_kept_any_more_which_is_news_once() -> None:
    lifetime = Lifetime()
    lessons = []
    for number in range(SHORT_LIVES + 5):
        lessons.append(lifetime.dropped(0.2, now=2.0 * number))
        lifetime.served(now=2.0 * number + 1)

    told = [lesson for lesson in lessons if lesson is not None]
    assert told == [Lesson(0.0, 2.0 * (SHORT_LIVES - 1))]
    assert lifetime.limit_s(100.0) == 0


def test_while_no_client_is_served_short_lives_are_a_failure_and_no_wish() -> None:
    lifetime = Lifetime()
    lifetime.served(now=0.0)
    for number in range(3 * SHORT_LIVES):
        assert lifetime.dropped(0.2, now=1.0 + 2.0 * number) is None

    assert lifetime.served(now=50.0) == Lesson(0.0, 50.0)


def test_one_that_lived_longer_breaks_the_row_of_short_lives() -> None:
    lifetime = Lifetime()
    for number in range(SHORT_LIVES - 1):
        lifetime.dropped(0.1, now=2.0 * number)
    lifetime.dropped(30.0, now=50.0)

    assert lifetime.dropped(0.1, now=60.0) is None
    assert lifetime.limit_s(61.0) == OLDEST_S


def test_drops_long_after_each_other_are_no_row() -> None:
    lifetime = Lifetime()
    for number in range(SHORT_LIVES):
        assert lifetime.dropped(0.2, now=86_400.0 * number) is None
    lifetime.dropped(60.0, now=900_000.0)
    assert lifetime.dropped(60.0, now=990_000.0) is None


def test_one_that_was_of_use_at_that_age_breaks_the_row() -> None:
    lifetime = Lifetime()
    lifetime.dropped(60.0, now=0.0)
    lifetime.survived(70.0)
    assert lifetime.dropped(60.0, now=60.0) is None
    for number in range(SHORT_LIVES - 1):
        lifetime.dropped(0.1, now=100.0 + 2.0 * number)
    lifetime.survived(5.0)
    assert lifetime.dropped(0.1, now=110.0) is None


def test_one_that_was_of_use_at_once_proves_nothing() -> None:
    lifetime = Lifetime()
    for number in range(SHORT_LIVES - 1):
        lifetime.dropped(0.1, now=2.0 * number)
    lifetime.survived(0.01)
    lifetime.served(now=9.0)
    assert lifetime.dropped(0.1, now=10.0) is not None


@pytest.mark.parametrize("age", [0.2, 60.0])
def test_a_lesson_is_forgotten_after_an_hour(age: float) -> None:
    lifetime = Lifetime()
    for number in range(SHORT_LIVES):
        lifetime.dropped(age, now=10.0 * number)
    lifetime.served(now=10.0 * SHORT_LIVES)
    until = lifetime.forgotten_at()

    assert until is not None and until <= 10.0 * SHORT_LIVES + LESSON_S
    assert lifetime.limit_s(until - 1) < OLDEST_S
    assert lifetime.limit_s(until) == OLDEST_S


@example(515.0, [0.0] * 9)  # the last drop comes an hour after the lesson
@given(st.floats(1.1, 3600.0), st.lists(st.floats(0.0, 0.05), min_size=2, max_size=9))
def test_a_far_side_with_a_fixed_patience_is_learned_at_its_second_drop(
    patience: float, lateness: list[float]
) -> None:
    lifetime, now = Lifetime(), 0.0
    for late in lateness:
        now += patience + late
        lifetime.dropped(patience * (1 + late), now)
    assert 0 < lifetime.limit_s(now) < patience
