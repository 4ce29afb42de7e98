"""What is done when the clock jumped or a network came."""

from __future__ import annotations

import logging
from typing import Optional

import pytest

from ngrokd.clock import JUMP_S
from ngrokd.errors import ApiUnavailable
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import NetworkCame
from ngrokd.wake import SETTLE_S
from ngrokd.waking import LOOK_S, Waking

ETH = NetworkCame("eth0 has 192.0.2.7", frozenset({"192.0.2.7"}))
UNREACHED = ApiUnavailable("unreachable")


class Rest:
    """The rest of the daemon, and what is asked of it; and two clocks that stand still."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.has_key = True
        self.now, self.date = 1000.0, 1_700_000_000.0
        self.waking = Waking(
            self.ask,
            self.resolve,
            self.done.append,
            lambda: 30.0,
            (lambda: self.date, lambda: self.now),
        )
        self.waking.tick()

    def passes(self, seconds: float) -> None:
        """Time, and then a turn of the main loop."""
        self.now += seconds
        self.date += seconds
        self.waking.tick()

    def asks(self, kind: JobKind, error: Optional[ApiUnavailable] = None) -> None:
        """A whole question to the network."""
        self.waking.asked(kind)
        self.waking.answered(JobDone(kind, error=error))

    def ask(self) -> bool:
        self.done.append("ask")
        return self.has_key

    def resolve(self) -> None:
        self.done.append("resolve")


@pytest.fixture
def rest(caplog: pytest.LogCaptureFixture) -> Rest:
    caplog.set_level(logging.DEBUG)
    return Rest()


@pytest.mark.parametrize("offset_s", [7200.0, 86400.0, -86400.0])
def test_a_jump_asks_resolves_distrusts_and_says_one_line(
    rest: Rest, offset_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    rest.date += offset_s
    rest.waking.tick()
    assert rest.done == ["ask", "resolve", None]
    rest.waking.tick()
    assert len(rest.done) == 3
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith("; ngrok is asked at once")


def test_a_small_step_of_the_clock_is_nothing(rest: Rest) -> None:
    rest.date += JUMP_S / 2
    rest.waking.tick()
    assert rest.done == []


def test_the_clocks_are_compared_every_few_seconds(rest: Rest) -> None:
    assert rest.waking.wait_s(rest.now) == LOOK_S


def test_while_all_is_well_a_network_leaves_no_line_an_operator_sees(
    rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    rest.waking.came(ETH)
    assert rest.waking.wait_s(rest.now) == SETTLE_S
    rest.passes(SETTLE_S)
    assert rest.done == ["ask", "resolve", frozenset({"192.0.2.7"})]
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


def test_after_a_failure_a_network_that_came_is_told(
    rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    rest.asks(JobKind.POLL, UNREACHED)
    rest.passes(60.0)
    rest.waking.came(ETH)
    rest.passes(SETTLE_S)
    assert rest.done == ["ask", "resolve", frozenset({"192.0.2.7"})]
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.INFO,
        "eth0 has 192.0.2.7; ngrok is asked at once",
    )


@pytest.mark.parametrize("kind", [JobKind.RESOLVE, JobKind.CHECK_KEY])
def test_only_what_asks_for_endpoints_and_certificates_is_counted(
    rest: Rest, kind: JobKind, caplog: pytest.LogCaptureFixture
) -> None:
    rest.asks(kind, UNREACHED)
    rest.waking.came(ETH)
    rest.passes(SETTLE_S)
    assert "ask" in rest.done
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


def test_while_ngrok_answers_only_the_connections_are_judged_before_most_of_the_spacing_is_over(
    rest: Rest,
) -> None:
    rest.asks(JobKind.POLL)
    rest.waking.came(ETH)
    rest.passes(SETTLE_S)
    assert rest.done == [frozenset({"192.0.2.7"})]
    rest.passes(20.0)
    assert rest.done == [frozenset({"192.0.2.7"})]
    rest.passes(0.5)
    assert rest.done[1:] == ["ask", "resolve"]


def test_without_a_key_nobody_is_said_to_be_asked(
    rest: Rest, caplog: pytest.LogCaptureFixture
) -> None:
    rest.has_key = False
    rest.date += 7200.0
    rest.waking.tick()
    assert caplog.messages == ["the machine slept, or its clock was set forward by 2 h 0 min"]
