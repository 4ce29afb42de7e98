"""What follows when the clock jumped or a network came, and how often at most."""

from __future__ import annotations

import math
import random
from typing import Optional

import pytest

from ngrokd.errors import ApiError, ApiRefused, ApiUnavailable, OperatorLost, StateError
from ngrokd.model import NetworkCame
from ngrokd.upkeep.pace import Pace
from ngrokd.upkeep.wake import JUDGE_GAP_S, POLL_GAP_PART, SETTLE_S, TRY_GAP_S, Todo, Wake

INTERVAL_S = 30.0
ROUNDING_S = 1e-6  # of sums of such times
ETH = NetworkCame("eth0 has 192.0.2.7", frozenset({"192.0.2.7"}))
ROUTE = NetworkCame("a default route by eth0", everywhere=True)
UNREACHED = ApiUnavailable("unreachable")
WAIT = ApiUnavailable("too many", status=429, retry_after_s=60.0)


def asked(wake: Wake, now: float, error: Optional[BaseException] = None) -> None:
    """A whole request, that takes no time."""
    wake.asked(now)
    wake.answered(error)


def due(wake: Wake, now: float) -> Optional[Todo]:
    return wake.due(now, INTERVAL_S)


def test_nothing_is_due_where_nothing_happens() -> None:
    wake = Wake()
    assert due(wake, 0.0) is None
    assert wake.wait_s(0.0, INTERVAL_S) == math.inf


@pytest.mark.parametrize("error", [None, UNREACHED, WAIT, ApiRefused("no")])
def test_a_jump_asks_at_once_and_once_whatever_was_answered_last(
    error: Optional[BaseException],
) -> None:
    wake = Wake()
    asked(wake, 99.9, error)
    wake.jumped(7200.0)
    assert wake.wait_s(100.0, INTERVAL_S) == 0
    todo = due(wake, 100.0)
    assert todo is not None
    assert (todo.poll, todo.judge, todo.addresses, todo.resolve, todo.is_news) == (
        True,
        True,
        None,
        True,
        True,
    )
    assert "slept" in todo.why
    assert due(wake, 100.0) is None


def test_a_jump_while_ngrok_is_being_asked_is_not_put_off() -> None:
    wake = Wake()
    wake.asked(0.0)
    wake.jumped(-86400.0)
    todo = due(wake, 0.1)
    assert todo is not None and todo.poll


def test_a_link_its_address_and_its_route_are_one_network() -> None:
    wake = Wake()
    asked(wake, 0.0)
    wake.came(NetworkCame("eth0 is up", frozenset({"192.0.2.7"})), 100.0)
    wake.came(NetworkCame("eth0 has 2001:db8::7", frozenset({"2001:db8::7"})), 100.2)
    assert due(wake, 100.4) is None
    assert wake.wait_s(100.4, INTERVAL_S) == pytest.approx(0.1)
    todo = due(wake, 100.0 + SETTLE_S)
    assert todo == Todo(
        "eth0 is up", True, True, frozenset({"192.0.2.7", "2001:db8::7"}), is_news=False
    )
    assert due(wake, 200.0) is None


def test_a_default_route_puts_every_connection_in_doubt() -> None:
    wake = Wake()
    wake.came(ETH, 0.0)
    wake.came(ROUTE, 0.1)
    todo = due(wake, SETTLE_S)
    assert todo is not None and todo.judge and todo.addresses is None and todo.resolve


def test_while_ngrok_answers_polls_keep_a_distance_but_connections_are_judged() -> None:
    wake = Wake()
    asked(wake, 100.0)
    wake.came(ETH, 101.0)
    first = due(wake, 101.0 + SETTLE_S)
    assert first is not None and (first.poll, first.judge, first.resolve) == (False, True, False)
    assert wake.wait_s(101.5, INTERVAL_S) == pytest.approx(19.5)
    assert due(wake, 120.9) is None
    second = due(wake, 121.0)
    assert second is not None and (second.poll, second.judge) == (True, False)
    assert second.why == ETH.what


def test_while_ngrok_cannot_be_reached_a_network_cuts_the_back_off_short() -> None:
    wake = Wake()
    asked(wake, 100.0, UNREACHED)
    wake.came(ETH, 200.0)
    todo = due(wake, 200.0 + SETTLE_S)
    assert todo is not None and todo.poll and todo.is_news
    asked(wake, 200.5, UNREACHED)
    wake.came(ROUTE, 201.0)
    judged = due(wake, 200.5 + TRY_GAP_S - 0.01)
    assert judged is None or not judged.poll
    again = due(wake, 200.5 + TRY_GAP_S)
    assert again is not None and again.poll


@pytest.mark.parametrize(
    "error",
    [
        WAIT,
        ApiUnavailable("slow down", status=503, retry_after_s=20.0),
        ApiUnavailable("too many", status=429),
        ApiRefused("this key is not known", status=401),
        ApiError("our fault", status=400),
    ],
)
def test_an_api_that_says_no_or_wait_is_not_asked_sooner_for_a_network(error: ApiError) -> None:
    wake = Wake()
    asked(wake, 0.0, error)
    wake.came(ETH, 100.0)
    todo = due(wake, 101.0)
    assert todo is not None and todo.judge and not todo.poll
    assert due(wake, 1000.0) is None
    assert wake.wait_s(1000.0, INTERVAL_S) == math.inf
    asked(wake, 1001.0)  # at its time
    assert due(wake, 2000.0) is None


@pytest.mark.parametrize(
    "error", [UNREACHED, ApiUnavailable("a portal", status=200), StateError("disk full")]
)
def test_what_a_network_may_mend_is_tried(error: Exception) -> None:
    wake = Wake()
    asked(wake, 0.0, error)
    wake.came(ETH, 100.0)
    todo = due(wake, 101.0)
    assert todo is not None and todo.poll


def test_after_the_loss_of_the_operator_and_a_good_answer_networks_count_again() -> None:
    wake = Wake()
    asked(wake, 0.0, OperatorLost("gone", status=404))
    asked(wake, 1.0)
    wake.came(ETH, 100.0)
    todo = due(wake, 101.0)
    assert todo is not None and todo.poll


def test_a_request_under_way_is_waited_for_then_its_age_counts() -> None:
    """It may have begun on a network that is gone, and hang."""
    wake = Wake()
    wake.asked(100.0)
    wake.came(ROUTE, 103.0)
    judged = due(wake, 104.0)
    assert judged is not None and not judged.poll
    assert due(wake, 109.0) is None
    assert wake.wait_s(109.0, INTERVAL_S) == math.inf
    wake.answered(UNREACHED)
    todo = due(wake, 110.0)
    assert todo is not None and todo.poll


def test_a_poll_that_began_after_the_network_came_is_the_one_it_brings() -> None:
    wake = Wake()
    asked(wake, 90.0)
    wake.came(ETH, 100.0)
    assert due(wake, 100.5) is not None  # judged; the poll is due at 111
    asked(wake, 104.0)
    assert due(wake, 200.0) is None


def test_ten_thousand_events_in_a_burst_cost_one_poll() -> None:
    wake = Wake()
    asked(wake, 0.0)
    polls = judged = 0
    for n in range(10_000):
        now = 100.0 + n / 10_000
        wake.came(ETH, now)
        todo = due(wake, now)
        if todo is not None:
            polls += todo.poll
            judged += todo.judge
            asked(wake, now)
    for tenth in range(10 * 20):  # the gap after 100.5 is not over
        todo = due(wake, 101.0 + tenth / 10)
        polls += bool(todo and todo.poll)
        judged += bool(todo and todo.judge)
    assert (polls, judged) == (1, 2)


@pytest.mark.parametrize(
    ("error", "gap_s"), [(None, POLL_GAP_PART * INTERVAL_S), (UNREACHED, TRY_GAP_S)]
)
@pytest.mark.parametrize("seed", range(5))
def test_an_hour_of_networks_keeps_every_bound(
    error: Optional[BaseException], gap_s: float, seed: int
) -> None:
    """A host of containers; the driver of this test also polls by itself, once an interval."""
    chance = random.Random(seed)
    wake, polls, judged, turns = Wake(), [0.0], [-math.inf], 0
    asked(wake, 0.0, error)
    now = 0.0
    while now < 3600.0:
        event_in_s = chance.uniform(0, 2)
        own_in_s = polls[-1] + INTERVAL_S - now
        now += max(1e-3, min(event_in_s, own_in_s, wake.wait_s(now, INTERVAL_S)))
        turns += 1
        if chance.random() < 0.6:
            wake.came(chance.choice([ETH, ROUTE]), now)
        todo = due(wake, now)
        if todo is not None and todo.judge:
            assert now - judged[-1] >= JUDGE_GAP_S - ROUNDING_S
            judged.append(now)
        if todo is not None and todo.poll:
            assert now - polls[-1] >= gap_s - ROUNDING_S
        if (todo is not None and todo.poll) or now - polls[-1] >= INTERVAL_S:
            polls.append(now)
            asked(wake, now, error)
    assert turns < 3600 * 4, "it spins"
    assert len(polls) > 100 and len(judged) > 100


def test_while_ngrok_answers_days_of_networks_have_twice_as_many_polls_at_most() -> None:
    """Together with those in turn, as `Pace` has them."""
    chance = random.Random(12)
    wake, pace = Wake(), Pace(INTERVAL_S, chance.random)
    now, in_turn, polls, hours = 0.0, 0.0, 0, 48
    while now < 3600.0 * hours:
        todo = due(wake, now)
        if todo is not None and todo.poll:
            pace.hurry()
        if (todo is not None and todo.poll) or now >= in_turn:
            pace.begins(polls)
            polls += 1
            asked(wake, now)
            in_turn = now + pace.after_success(polls)
        wake.came(ETH, now)
        now += max(1e-3, min(wake.wait_s(now, INTERVAL_S), in_turn - now))
    assert polls <= 2 * 3600 / INTERVAL_S * hours
