"""The ingress's addresses in turn, under one deadline."""

from __future__ import annotations

import pytest

from ngrokd.forward.attempts import Attempt, Attempts, show
from ngrokd.model import Address, Cause, Failure

ONE, TWO, SIX = Address("10.0.0.1", 443), Address("10.0.0.2", 443), Address("fd00::1", 443)


def test_each_address_gets_its_share_of_the_time_that_is_left() -> None:
    attempts = Attempts([ONE, TWO, SIX], deadline=9.0)

    assert attempts.next(0.0) == Attempt(ONE, 3.0)
    assert attempts.next(1.0) == Attempt(TWO, 5.0)
    assert attempts.next(8.0) == Attempt(SIX, 9.0)
    assert attempts.next(8.5) is None


def test_after_the_deadline_no_address_is_tried() -> None:
    attempts = Attempts([ONE, TWO], deadline=9.0)

    assert attempts.next(9.0) is None


def test_a_reason_shared_by_addresses_is_said_once() -> None:
    attempts = Attempts([], deadline=0.0)
    attempts.failed(ONE, Failure(Cause.CONNECT_REFUSED, "refused"))
    attempts.failed(SIX, Failure(Cause.CONNECT_TIMEOUT, "timed out"))
    attempts.failed(TWO, Failure(Cause.CONNECT_REFUSED, "refused"))

    assert attempts.summary() == (
        "10.0.0.1:443, 10.0.0.2:443: refused; [fd00::1]:443: timed out"
    )


@pytest.mark.parametrize(
    ("causes", "cause"),
    [
        ([Cause.CONNECT_TIMEOUT, Cause.CONNECT_REFUSED], Cause.CONNECT_REFUSED),
        ([Cause.CERTIFICATE_REFUSED, Cause.TLS_FAILED], Cause.TLS_FAILED),
        ([Cause.CERTIFICATE_REFUSED, Cause.UNREACHABLE], Cause.CERTIFICATE_REFUSED),
        ([Cause.CERTIFICATE_REFUSED, Cause.TLS_FAILED, Cause.UNREACHABLE], Cause.TLS_FAILED),
        ([], Cause.CONNECT_TIMEOUT),
    ],
    ids=str,
)
def test_the_cause_is_that_of_the_last_address_that_was_reached_if_one_was(
    causes: list[Cause], cause: Cause
) -> None:
    attempts = Attempts([], deadline=0.0)
    for each in causes:
        attempts.failed(ONE, Failure(each, "in words"))

    assert attempts.cause() is cause


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert show(SIX) == "[fd00::1]:443"
