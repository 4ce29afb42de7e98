"""How long a failure makes us wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.errors import ApiRefused, ApiUnavailable, NgrokdError, OperatorLost, StateError
from ngrokd.upkeep.backoff import renewal_gap_s, wait_s

OUTAGE, LIMITED = ApiUnavailable("x", 503), ApiUnavailable("x", 429)


@pytest.mark.parametrize(
    ("error", "failures", "least", "longest"),
    [
        (OUTAGE, 1, 3, 30),
        (OUTAGE, 2, 6, 60),
        (OUTAGE, 3, 12, 120),
        (OUTAGE, 4, 24, 240),
        (OUTAGE, 5, 30, 300),
        (OUTAGE, 10_000, 30, 300),
        (OperatorLost("x", 404), 2, 6, 60),
        (StateError("x"), 1, 3, 30),
        (ApiUnavailable("x", 503, retry_after_s=0.0), 1, 3, 30),
        (ApiUnavailable("x", 503, retry_after_s=100.0), 1, 103, 130),
        (LIMITED, 1, 30, 90),
        (LIMITED, 9, 150, 450),
        (ApiUnavailable("x", 429, retry_after_s=200.0), 1, 200, 260),
        (ApiUnavailable("x", 400, "ERR_NGROK_226"), 1, 30, 90),
        (ApiRefused("x", 401), 1, 300, 450),
        (ApiRefused("x", 401), 99, 300, 450),
    ],
)
def test_a_wait_is_any_time_between_two_bounds(
    error: NgrokdError, failures: int, least: float, longest: float
) -> None:
    waits = [wait_s(error, failures, 30.0, random) for random in (0.0, 0.5, 1.0)]
    assert waits == pytest.approx([least, (least + longest) / 2, longest])


@pytest.mark.parametrize(
    ("interval", "failures", "least", "longest"),
    [(1, 1, 1, 2), (1, 4, 1, 8), (1, 99, 30, 300), (300, 1, 30, 300), (3600, 9, 360, 3600)],
)
def test_the_bounds_begin_at_the_interval_and_end_at_five_minutes_or_the_interval(
    interval: float, failures: int, least: float, longest: float
) -> None:
    assert wait_s(OUTAGE, failures, interval, 0.0) == pytest.approx(least)
    assert wait_s(OUTAGE, failures, interval, 1.0) == pytest.approx(longest)


@given(
    st.sampled_from([OUTAGE, LIMITED, OperatorLost("x", 404), ApiRefused("x", 401)]),
    st.integers(1, 10**6),
    st.floats(1, 86400),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 3600),
)
def test_no_wait_is_shorter_than_a_second_or_than_what_was_asked(
    error: NgrokdError, failures: int, interval: float, random: float, after: float
) -> None:
    if isinstance(error, ApiUnavailable):
        error = ApiUnavailable("x", error.status, "", after)
    wait = wait_s(error, failures, interval, random)
    assert 1 <= wait <= 3600 + 1.5 * max(interval, 300)
    if isinstance(error, ApiUnavailable):
        assert wait >= (after or 0)


def test_those_who_were_told_the_same_time_do_not_come_back_in_the_same_second() -> None:
    told = ApiUnavailable("x", 503, retry_after_s=60.0)
    waits = {round(wait_s(told, 1, 30.0, n / 20)) for n in range(20)}
    assert len(waits) >= 19


@pytest.mark.parametrize(
    ("in_a_row", "left_s", "gap"),
    [(1, 1e9, 60), (2, 1e9, 120), (99, 1e9, 3600), (1, 40, 20), (1, 4, 10), (1, -5, 10)],
)
def test_certificates_that_are_due_as_they_come_are_spaced(
    in_a_row: int, left_s: float, gap: float
) -> None:
    assert renewal_gap_s(in_a_row, left_s) == gap
