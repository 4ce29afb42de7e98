"""A thread that does not turn is told from one that has nothing to do."""

from __future__ import annotations

import pytest

from ngrokd.process.pulse import FORWARD_LIMIT_S, LEAST_INTERVAL_S, LONGEST_NAP_S, Pulse


class Hands:
    """A clock that is set, and a forwarding thread that turned at some time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.turned = 100.0
        self.pulse = Pulse(lambda: self.turned, lambda: self.now)


def test_the_forwarding_thread_must_have_turned_within_five_seconds() -> None:
    hands = Hands()
    assert FORWARD_LIMIT_S == 5.0
    hands.now = 104.99
    assert hands.pulse.forwarding()
    hands.now = 105.0
    assert not hands.pulse.forwarding()
    hands.turned = 105.0
    assert hands.pulse.forwarding()


@pytest.mark.parametrize(
    ("poll_interval", "interval"),
    [(30.0, 30.0), (1.0, LEAST_INTERVAL_S), (86_400.0, LONGEST_NAP_S)],
)
def test_the_main_thread_must_turn_within_twice_its_interval(
    poll_interval: float, interval: float
) -> None:
    hands = Hands()
    hands.pulse.beat(poll_interval)
    assert hands.pulse.nap_s == interval
    hands.now = 100.0 + 2 * interval - 0.01
    assert hands.pulse.reconciling()
    hands.now = 100.0 + 2 * interval
    assert not hands.pulse.reconciling()
    hands.pulse.beat(poll_interval)
    assert hands.pulse.reconciling()


def test_a_daemon_that_has_just_been_made_lives() -> None:
    assert Hands().pulse.reconciling()
