"""What the service manager hears, and when."""

from __future__ import annotations

from typing import Optional

import pytest

from ngrokd.model import State, Status
from ngrokd.process.supervision import PATIENCE_S, Supervision, describe, settled


class Heard:
    """A notifier that remembers."""

    def __init__(self, watchdog_s: Optional[float] = None) -> None:
        self.watchdog_s = watchdog_s
        self.words: list[str] = []

    def ready(self, status: str) -> None:
        self.words.append(f"ready {status.partition(':')[0]}")

    def reloading(self) -> None:
        self.words.append("reloading")

    def status(self, text: str) -> None:
        self.words.append(f"status {text.partition(':')[0]}")

    def stopping(self, status: str, within_s: float) -> None:
        self.words.append(f"{status} within {within_s:g}")

    def alive(self) -> None:
        self.words.append("alive")


def at(state: State, *problems: str) -> Status:
    return Status(state=state, problems=problems)


def test_it_is_ready_once_the_endpoints_are_there() -> None:
    heard = Heard()
    supervision = Supervision(heard, lambda: True, 0.0)
    supervision.tick(at(State.REGISTERING), 0.1)
    assert heard.words == []
    supervision.tick(at(State.READY), 0.2)
    supervision.tick(at(State.READY), 0.3)
    assert heard.words == ["ready ready"]


@pytest.mark.parametrize(
    "status",
    [
        at(State.WAITING_FOR_API_KEY),
        at(State.READY),
        Status(state=State.REGISTERING, api_last_error="no network"),
    ],
)
def test_nobody_waits_for_what_will_not_come_soon(status: Status) -> None:
    assert settled(status)


def test_a_problem_of_another_kind_does_not_make_it_ready_before_the_names_are_there() -> None:
    assert not settled(at(State.REGISTERING, "health pages on 127.0.0.1:8081: in use"))


def test_a_boot_is_not_held_up_by_an_api_that_does_not_answer() -> None:
    heard = Heard()
    supervision = Supervision(heard, lambda: True, 100.0)
    supervision.tick(at(State.REGISTERING), 100.0)
    assert supervision.wait_s(101.0) == PATIENCE_S - 1
    supervision.tick(at(State.REGISTERING), 100.0 + PATIENCE_S)
    assert heard.words == ["ready registering"]


def test_later_changes_are_told_once_each() -> None:
    heard = Heard()
    supervision = Supervision(heard, lambda: True, 0.0)
    for state in (State.READY, State.DEGRADED, State.DEGRADED, State.READY):
        supervision.tick(at(state), 1.0)
    assert heard.words == ["ready ready", "status degraded", "status ready"]


def test_a_sign_of_life_comes_in_time_while_both_threads_turn() -> None:
    heard, turning = Heard(watchdog_s=10.0), True
    supervision = Supervision(heard, lambda: turning, 0.0)
    for now in (0.0, 5.0, 10.0, 15.0):
        supervision.tick(at(State.READY), now)
    assert heard.words.count("alive") == 2
    assert supervision.wait_s(15.0) == 5.0
    turning = False
    supervision.tick(at(State.READY), 20.0)
    assert heard.words.count("alive") == 2


def test_a_reload_is_told_from_begin_to_end() -> None:
    heard = Heard()
    supervision = Supervision(heard, lambda: True, 0.0)
    supervision.reloading()  # before it is up nobody waits for a reload
    supervision.reloaded(at(State.REGISTERING))
    supervision.tick(at(State.READY), 0.0)
    supervision.reloading()
    supervision.reloaded(at(State.READY))
    assert heard.words == ["ready ready", "reloading", "ready ready"]


def test_a_stop_asks_for_the_time_that_draining_takes_and_shows_life_meanwhile() -> None:
    heard = Heard(watchdog_s=1.0)
    supervision = Supervision(heard, lambda: True, 0.0)
    supervision.stopping(3600)
    supervision.show_life(1.0)
    assert heard.words == ["stopping within 3660", "alive"]
    assert supervision.wait_s(PATIENCE_S - 9) == 1.0


def test_the_first_problem_is_in_the_line() -> None:
    assert describe(at(State.DEGRADED, "a", "b")) == "degraded: 0 of 0 endpoints open; a"
    assert describe(at(State.WAITING_FOR_API_KEY)).startswith("waiting for api key: ")
