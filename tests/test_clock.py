"""Which changes between the two clocks count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.upkeep.clock import JUMP_S, READING_S, ClockWatch, jump_text

DAY_S = 86400.0
NOW = 1_700_000_000.0  # Unix seconds


def look(watch: ClockWatch, monotonic: float, wall: float, reading_s: float = 0.0) -> float:
    return watch.look(monotonic, wall, monotonic + reading_s)


def test_the_first_look_finds_nothing() -> None:
    assert look(ClockWatch(), 5.0, NOW) == 0


@pytest.mark.parametrize("jump_s", [7200.0, DAY_S, -DAY_S, -10.0, JUMP_S + 0.3])
def test_a_jump_is_told_once(jump_s: float) -> None:
    watch = ClockWatch()
    look(watch, 0.0, NOW)
    assert look(watch, 2.0, NOW + 2 + jump_s) == pytest.approx(jump_s)
    assert look(watch, 4.0, NOW + 4 + jump_s) == 0


@given(st.lists(st.floats(0.001, 600.0), max_size=60), st.floats(-0.1, 0.1))
def test_a_clock_that_is_slewed_has_not_jumped_however_late_the_looks_are(
    pauses: list[float], rate: float
) -> None:
    watch = ClockWatch()
    monotonic, wall = 0.0, NOW
    look(watch, monotonic, wall)
    for pause in pauses:
        monotonic += pause
        wall += pause * (1 + rate)
        assert look(watch, monotonic, wall) == 0


def test_a_step_of_ntp_or_a_leap_second_is_no_jump() -> None:
    watch = ClockWatch()
    look(watch, 0.0, NOW)
    for n in range(1, 100):
        assert look(watch, 2.0 * n, NOW + 2 * n + (n % 2)) == 0


def test_a_reading_that_was_interrupted_is_no_jump_and_hides_none() -> None:
    """The wall clock is read long after the monotonic one, as on a machine that is busy."""
    watch = ClockWatch()
    look(watch, 0.0, NOW)
    assert look(watch, 2.0, NOW + 32, reading_s=30.0) == 0
    assert look(watch, 34.0, NOW + 34) == 0
    assert look(watch, 36.0, NOW + 36 + DAY_S, reading_s=READING_S * 2) == 0
    assert look(watch, 38.0, NOW + 38 + DAY_S) == pytest.approx(DAY_S)


def test_sleeps_one_after_the_other_are_each_told() -> None:
    watch = ClockWatch()
    look(watch, 0.0, NOW)
    told = [look(watch, 2.0 * n, NOW + 60.0 * n) for n in range(1, 4)]
    assert told == pytest.approx([58.0, 58.0, 58.0])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (7200.0, "the machine slept, or its clock was set forward by 2 h 0 min"),
        (DAY_S, "the machine slept, or its clock was set forward by 24 h 0 min"),
        (-3 * DAY_S, "the machine's clock was set back by 3 days"),
        (-75.2, "the machine's clock was set back by 1 min 15 s"),
        (6.0, "the machine slept, or its clock was set forward by 6 s"),
    ],
)
def test_a_jump_is_told_in_words(seconds: float, text: str) -> None:
    assert jump_text(seconds) == text
