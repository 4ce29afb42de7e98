"""When polls come, and what many machines of one account make of its limit together."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest

from ngrokd.errors import ApiRefused, ApiUnavailable
from ngrokd.upkeep.pace import LONGEST_START_S, Pace

LIMITED = ApiUnavailable("slow down", 429, "ERR_NGROK_226")
OUTAGE = ApiUnavailable("x", 503)
LIMIT, WINDOW_S = 120, 60.0


def pace(at: float = 0.5, interval: float = 30.0) -> Pace:
    """One whose random number is always `at`."""
    return Pace(interval, lambda: at)


def settled(at: float = 0.5, interval: float = 30.0) -> Pace:
    """One whose polls are in turn."""
    one = pace(at, interval)
    one.after_success(0)
    return one


# One machine


@pytest.mark.parametrize(("at", "wait"), [(0.0, 0.0), (0.5, 15.0), (0.9, 27.0)])
def test_a_machine_that_has_just_booted_and_serves_already_begins_somewhen(
    at: float, wait: float
) -> None:
    assert pace(at).first_s(20.0, serving=True) == pytest.approx(wait)


@pytest.mark.parametrize(("uptime_s", "serving"), [(20.0, False), (300.0, True), (1e6, False)])
def test_any_other_machine_begins_at_once(uptime_s: float, serving: bool) -> None:
    assert pace(0.9).first_s(uptime_s, serving) == 0


def test_a_start_is_not_put_off_for_long_whatever_the_interval() -> None:
    assert pace(0.99, 86400.0).first_s(20.0, serving=True) < LONGEST_START_S


@pytest.mark.parametrize(("at", "wait"), [(0.0, 1.0), (0.5, 15.0), (1.0, 30.0)])
def test_the_second_poll_comes_after_any_part_of_the_interval(at: float, wait: float) -> None:
    assert pace(at).after_success(1) == wait


@pytest.mark.parametrize(("interval", "second"), [(30.0, 33.0), (300.0, 300.0)])
def test_whose_start_was_put_off_by_a_part_of_the_interval_is_in_turn(
    interval: float, second: float
) -> None:
    one = pace(1.0, interval)
    one.first_s(20.0, serving=True)
    assert one.after_success(1) == pytest.approx(second)


@pytest.mark.parametrize(("at", "wait"), [(0.0, 27.0), (0.5, 30.0), (1.0, 33.0)])
def test_then_they_come_after_the_interval_a_tenth_more_or_less(at: float, wait: float) -> None:
    assert settled(at).after_success(1) == pytest.approx(wait)


def test_after_a_poll_out_of_turn_machines_part_again() -> None:
    one = settled(0.1)
    one.hurry()
    assert one.after_success(1) == pytest.approx(3.0)
    assert one.after_success(1) == pytest.approx(27.6)


def test_each_refusal_doubles_the_spacing_up_to_five_minutes() -> None:
    one = settled()
    spacings = []
    for _ in range(6):
        one.after_failure(LIMITED, 1)
        spacings.append(one.spacing_s)
    assert spacings == [60, 120, 240, 300, 300, 300]


def test_successes_narrow_the_spacing_slowly_to_the_interval() -> None:
    one = settled()
    for _ in range(4):
        one.after_failure(LIMITED, 1)
    waits = [one.after_success(1) for _ in range(120)]
    assert waits[0] == pytest.approx(294.0)
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] == pytest.approx(30.0)


def test_an_interval_above_five_minutes_stays_what_it_is() -> None:
    one = settled(interval=3600.0)
    one.after_failure(LIMITED, 1)
    assert one.spacing_s == 3600


def test_a_new_interval_is_taken_up_and_what_was_learnt_is_kept() -> None:
    one = settled()
    one.after_failure(LIMITED, 1)
    one.configure(5.0)
    assert one.spacing_s == 60
    one.configure(100.0)
    assert one.spacing_s == 100


def test_an_outage_backs_off_from_the_spacing_and_says_nothing_about_it() -> None:
    one = settled(1.0)
    assert [one.after_failure(OUTAGE, 1) for _ in range(6)] == [30, 60, 120, 240, 300, 300]
    assert one.spacing_s == 30
    one.after_success(1)
    assert one.after_failure(OUTAGE, 1) == 30


def test_what_a_person_asks_for_begins_the_back_off_anew() -> None:
    one = settled(1.0)
    for _ in range(5):
        one.after_failure(OUTAGE, 1)
    one.begin_anew()
    assert one.after_failure(OUTAGE, 1) == 30


def test_a_refused_key_is_tried_slowly() -> None:
    assert settled(0.0).after_failure(ApiRefused("x", 401), 1) == 300


@pytest.mark.parametrize("at", [0.0, 0.5, 0.99])
def test_a_poll_of_a_hundred_requests_is_followed_by_at_least_a_hundred_seconds(
    at: float,
) -> None:
    one = settled(at)
    one.begins(1000)
    assert one.after_success(1100) >= 100
    assert one.after_failure(OUTAGE, 1100) >= 100
    one.begins(1100)
    assert one.after_failure(LIMITED, 1199) >= 99


def test_a_poll_that_asked_for_nothing_is_not_followed_by_another_at_once() -> None:
    assert pace(0.0).after_success(0) == 1.0


# Many machines


@dataclass
class Account:
    """Machines that poll one API, which grants 120 requests in any 60 s."""

    machines: int
    counts_refused: bool  # against the limit, too: nobody knows what ngrok does
    seed: int = 1
    uptime_s: float = 1e6
    good: Counter[int] = field(default_factory=Counter)  # minute: polls
    refused: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        rolls = random.Random(self.seed)
        self.paces = [Pace(30.0, rolls.random) for _ in range(self.machines)]
        starts = (one.first_s(self.uptime_s, serving=True) for one in self.paces)
        self.due = [(start, n) for n, start in enumerate(starts)]
        heapq.heapify(self.due)
        self.last = [0.0] * self.machines  # good poll
        self.longest_gap_s = 0.0
        self._window: deque[float] = deque()

    def run(self, until_s: float) -> None:
        """Until so many seconds after the start."""
        while self.due[0][0] < until_s:
            now, n = heapq.heappop(self.due)
            wait = self._good(n, now) if self._granted(now) else self._refused(n, now)
            heapq.heappush(self.due, (now + wait, n))

    def leave(self, staying: int) -> None:
        """All but the first few machines are switched off."""
        self.due = [(when, n) for when, n in self.due if n < staying]
        heapq.heapify(self.due)

    def total(self, minute: int) -> int:
        return self.good[minute] + self.refused[minute]

    def mean(self, first_minute: int, last_minute: int) -> tuple[float, float]:
        """Requests in a minute: all, and those refused."""
        minutes = range(first_minute, last_minute)
        refused = sum(self.refused[n] for n in minutes)
        return sum(map(self.total, minutes)) / len(minutes), refused / len(minutes)

    def _granted(self, now: float) -> bool:
        while self._window and self._window[0] <= now - WINDOW_S:
            self._window.popleft()
        granted = len(self._window) < LIMIT
        if granted or self.counts_refused:
            self._window.append(now)
        return granted

    def _good(self, n: int, now: float) -> float:
        self.good[int(now // 60)] += 1
        self.longest_gap_s = max(self.longest_gap_s, now - self.last[n])
        self.last[n] = now
        return self.paces[n].after_success(1)

    def _refused(self, n: int, now: float) -> float:
        self.refused[int(now // 60)] += 1
        return self.paces[n].after_failure(LIMITED, 1)


@pytest.mark.parametrize("counts_refused", [False, True])
@pytest.mark.parametrize(
    ("machines", "refused_of_all", "gap_s"),
    [(30, 0.0, 34), (60, 0.01, 400), (200, 0.05, 1800), (400, 0.08, 2700)],
)
def test_many_machines_that_start_at_once_keep_below_the_limit(
    machines: int, refused_of_all: float, gap_s: float, counts_refused: bool
) -> None:
    account = Account(machines, counts_refused)
    account.run(5 * 3600)
    total, refused = account.mean(30, 300)
    assert total < LIMIT
    assert refused <= refused_of_all * total
    assert max(account.total(n) for n in range(30, 300)) < 1.35 * LIMIT
    # What is granted is used: nobody waits for an account that has room.
    assert total > min(2 * machines, 0.8 * LIMIT) * 0.95
    assert account.longest_gap_s < gap_s
    assert max(5 * 3600 - when for when in account.last) < gap_s


@pytest.mark.parametrize("machines", [60, 200, 400])
def test_when_machines_leave_the_others_come_back_to_the_interval(machines: int) -> None:
    account = Account(machines, counts_refused=False)
    account.run(2 * 3600)
    account.leave(20)
    account.run(6 * 3600)
    assert [one.spacing_s for one in account.paces[:20]] == [30.0] * 20
    total, refused = account.mean(350, 360)
    assert refused == 0 and 38 < total < 42


def test_fifty_machines_that_boot_together_are_hardly_ever_refused() -> None:
    booted = Account(50, counts_refused=True, uptime_s=20.0)
    booted.run(3600)
    restarted = Account(50, counts_refused=True)
    restarted.run(3600)
    assert sum(booted.refused.values()) == 0 < sum(restarted.refused.values())
