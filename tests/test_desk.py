"""One desk for all who ask: in turn, what several wait for once, and with rests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.control.desk import AROUND_S, PART, REST_S, UNPACED_S, Desk, Pace

PATIENCE_S = 10.0
CROWD = 20


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk("test")
    made.start()
    yield made
    made.stop()


class Crowd:
    """Threads that ask one after the other, behind a question that is held. Owner: the test."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pool = ThreadPoolExecutor(CROWD + 2)
        self._go_on = threading.Event()
        begun = threading.Event()

        def hold() -> None:
            begun.set()
            self._go_on.wait(PATIENCE_S)

        self._held = self._pool.submit(desk.ask, hold)
        assert begun.wait(PATIENCE_S)

    def asks(self, work: object) -> Future[object]:
        """Once this returns the question waits for its turn."""
        before = self._desk.waiting
        asked: Future[object] = self._pool.submit(self._desk.ask, work)  # type: ignore[arg-type]
        deadline = time.monotonic() + PATIENCE_S
        while self._desk.waiting == before:
            assert time.monotonic() < deadline
        return asked

    def may_go(self) -> None:
        self._go_on.set()
        self._held.result(PATIENCE_S)

    def close(self) -> None:
        self._go_on.set()
        self._pool.shutdown()


@pytest.fixture
def crowd(desk: Desk) -> Iterator[Crowd]:
    made = Crowd(desk)
    yield made
    made.close()


def test_an_answer_goes_to_who_asked(desk: Desk) -> None:
    with ThreadPoolExecutor(CROWD) as pool:
        asked = [pool.submit(desk.ask, lambda n=number: n) for number in range(CROWD)]
        assert [each.result(PATIENCE_S) for each in asked] == list(range(CROWD))


def test_a_fault_is_that_of_who_asked_and_the_next_is_answered(desk: Desk) -> None:
    with pytest.raises(ZeroDivisionError):
        desk.ask(lambda: 1 // 0)
    assert desk.ask(lambda: "next") == "next"


def test_who_comes_first_is_answered_first(crowd: Crowd) -> None:
    order: list[int] = []
    asked = [crowd.asks(lambda n=number: order.append(n)) for number in range(CROWD)]
    crowd.may_go()
    for each in asked:
        each.result(PATIENCE_S)
    assert order == list(range(CROWD))


def test_what_several_wait_for_is_worked_out_once(desk: Desk, crowd: Crowd) -> None:
    done: list[str] = []

    def work() -> int:
        done.append("")
        return len(done)

    asked = [crowd.asks(lambda: desk.shared("page", work)) for _ in range(CROWD)]
    other = crowd.asks(lambda: desk.shared("other page", lambda: "other"))
    crowd.may_go()
    assert [each.result(PATIENCE_S) for each in asked] == [1] * CROWD
    assert other.result(PATIENCE_S) == "other"


def test_nobody_is_told_what_was_true_before_he_asked(desk: Desk, crowd: Crowd) -> None:
    truth = ["old"]
    first_done = threading.Event()
    ask_again = threading.Event()

    def first() -> str:
        answer = truth[0]
        first_done.set()
        assert ask_again.wait(PATIENCE_S)
        return answer

    first_asked = crowd.asks(lambda: desk.shared("page", first))
    crowd.may_go()
    assert first_done.wait(PATIENCE_S)
    truth[0] = "new"
    second = crowd.asks(lambda: desk.shared("page", lambda: truth[0]))
    ask_again.set()
    assert (first_asked.result(PATIENCE_S), second.result(PATIENCE_S)) == ("old", "new")


def test_nothing_is_kept_that_nobody_waits_for(desk: Desk) -> None:
    for number in range(3):
        assert desk.ask(lambda n=number: desk.shared("page", lambda: n)) == number  # type: ignore[misc]
    assert not desk.ask(lambda: desk._known)


def test_at_stop_who_has_asked_is_answered_and_who_asks_later_too() -> None:
    desk = Desk("test")
    desk.start()
    crowd = Crowd(desk)
    asked = [crowd.asks(lambda: "answered") for _ in range(CROWD)]
    stopping = threading.Thread(target=desk.stop)
    stopping.start()
    crowd.may_go()
    stopping.join(PATIENCE_S)
    assert [each.result(PATIENCE_S) for each in asked] == ["answered"] * CROWD
    assert desk.ask(lambda: "later") == "later"
    crowd.close()
    assert not [each for each in threading.enumerate() if each.name == "test-desk"]


def test_who_asks_now_and_then_waits_for_no_rest() -> None:
    pace = Pace()
    assert [pace.worked(0.02, float(second)) for second in range(60)] == [0.0] * 60


@given(st.lists(st.floats(AROUND_S, 0.2), min_size=1, max_size=200))
def test_a_crowd_takes_its_part_of_the_time_and_no_more(pieces: list[float]) -> None:
    pace, now = Pace(), 1000.0
    for piece in pieces:
        now += piece
        rest = pace.worked(piece, now)
        assert 0 <= rest <= REST_S
        now += rest
    worked = sum(pieces)
    assert worked <= PART * (now - 1000.0) + UNPACED_S + 1e-6


def test_after_the_longest_piece_of_work_the_rest_has_a_bound() -> None:
    assert Pace().worked(60.0, 1000.0) == REST_S
