"""Repeated log lines: nothing is lost, and the log never tells what did not happen."""

from __future__ import annotations

import math
from typing import Optional

from hypothesis import given
from hypothesis import strategies as st

from ngrokd.logs.repeats import (
    LONGEST_SETTLE_S,
    MAX_CHARACTERS,
    MAX_LINES,
    PLAIN_WRITES,
    WINDOW_S,
    Entry,
    Line,
    Repeats,
)

TICK_S = 0.25


def line(message: str, created: float = 0.0, level: int = 20) -> Line:
    return Line(created, level, "ngrokd.x", message)


class Log:
    """What stands in the log at the end, with the moment each line was written at."""

    def __init__(self) -> None:
        self.repeats = Repeats()
        self.now = 0.0
        self.written: list[tuple[float, Entry]] = []

    def say(self, *messages: str, every: float = 0.0) -> None:
        for message in messages:
            self.wait(every)
            self._write(self.repeats.add(line(message, self.now), self.now))

    def wait(self, seconds: float) -> None:
        """As the daemon does: it looks in when it was told to, or a little later."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + max(TICK_S, self.repeats.wait_s(self.now)))
            self._write(self.repeats.due(self.now))

    def end(self) -> None:
        self._write(self.repeats.rest())

    def texts(self) -> list[str]:
        return [
            e.line.message if e.count == 1 else f"{e.count} x {e.line.message}"
            for _, e in self.written
        ]

    def _write(self, entries: list[Entry]) -> None:
        self.written += [(self.now, entry) for entry in entries]


def test_a_line_that_comes_again_is_written_once_and_counted_until_another_comes() -> None:
    log = Log()
    log.say(*["refused"] * 58, every=0.01)
    assert log.texts() == ["refused"]
    log.say("open")
    assert log.texts() == ["refused", "57 x refused", "open"]


def test_a_line_that_comes_without_end_is_told_once_a_minute() -> None:
    log = Log()
    log.say(*["refused"] * 3001, every=0.1)
    told = [at for at, entry in log.written if entry.count > 1]
    assert len(log.written) == 1 + len(told)
    assert all(50 < later - at <= WINDOW_S + 0.2 for at, later in zip(told, told[1:]))
    assert len(told) == 4


def test_a_line_that_comes_every_few_seconds_is_soon_told_once_a_minute() -> None:
    log = Log()
    log.say(*["refused"] * 121, every=5.0)
    assert len(log.written) < 4 + 11
    log.end()
    assert sum(entry.count for _, entry in log.written) == 121


def test_bursts_with_pauses_are_soon_told_once_a_minute() -> None:
    log = Log()
    for _ in range(100):
        log.say(*["refused"] * 10, every=0.01)
        log.wait(3.0)
    assert len(log.written) < 4 + 6


def test_a_count_that_goes_on_is_not_told_because_another_ended() -> None:
    log = Log()
    log.say(*["a", "b"] * 4, every=0.01)
    log.say(*["b"] * 120, every=0.2)
    log.wait(LONGEST_SETTLE_S + TICK_S)
    assert log.texts() == [*["a", "b"] * PLAIN_WRITES, "a", "121 x b"]


def test_what_was_counted_is_told_soon_after_it_ended() -> None:
    log = Log()
    log.say(*["refused"] * 3, every=0.1)
    log.wait(2.5)
    assert log.texts() == ["refused", "2 x refused"]


def test_what_came_once_more_is_written_as_it_was() -> None:
    log = Log()
    log.say("refused", "refused", every=0.5)
    log.wait(3)
    assert log.texts() == ["refused", "refused"]
    assert [e.line.created for _, e in log.written] == [0.5, 1.0]


def test_a_person_who_asks_again_after_some_seconds_is_answered_at_once() -> None:
    log = Log()
    log.say("configuration read again")
    log.say("configuration read again", every=3)
    assert [at for at, _ in log.written] == [0, 3]


def test_the_same_line_after_a_quiet_minute_is_news() -> None:
    log = Log()
    for _ in range(5):
        log.say(*["refused"] * 10, every=0.01)
        log.wait(WINDOW_S + 20)
    assert log.texts() == ["refused", "9 x refused"] * 5


def test_a_change_of_state_and_back_is_three_lines() -> None:
    log = Log()
    log.say("open", "failed", "open", every=0.01)
    assert log.texts() == ["open", "failed", "open"]


def test_lines_that_take_turns_are_counted_in_the_order_of_their_last_coming() -> None:
    log = Log()
    log.say(*["a", "b", "c"] * 100, "a", every=0.01)
    log.end()
    assert log.texts() == [*["a", "b", "c"] * PLAIN_WRITES, "97 x b", "97 x c", "98 x a"]


def test_a_state_that_flapped_ends_with_its_last_word() -> None:
    log = Log()
    log.say(*["failed", "open"] * 50, every=1.0)
    log.wait(LONGEST_SETTLE_S + TICK_S)
    assert log.texts()[-1].endswith("open")
    assert log.written[-1][1].line.created == log.now - LONGEST_SETTLE_S - TICK_S
    assert len(log.written) < 20


def test_other_levels_and_modules_are_other_lines() -> None:
    repeats = Repeats()
    for each in (line("x"), line("x", level=30), Line(0, 20, "ngrokd.y", "x")):
        assert repeats.add(each, 0.0) == [Entry(each)]
    assert repeats.rest() == []


def test_the_count_tells_the_time_it_took() -> None:
    log = Log()
    log.say("x")
    log.say(*["x"] * 10, every=1.0)
    log.say("y")
    entry = log.written[-2][1]
    assert (entry.count, entry.span_s, entry.since, entry.line.created) == (10, 9.0, 1.0, 10.0)


def test_what_is_remembered_has_a_bound() -> None:
    repeats = Repeats()
    for number in range(10 * MAX_LINES):
        repeats.add(line(f"{number}"), 0.0)
    assert len(repeats._seen) == MAX_LINES
    for number in range(100):
        repeats.add(line(f"{number:20000}"), 0.0)
    assert sum(len(key[2]) for key in repeats._seen) <= MAX_CHARACTERS
    assert repeats._characters == sum(len(key[2]) for key in repeats._seen)


def test_nobody_needs_to_look_in_when_nothing_was_said_for_a_minute() -> None:
    repeats = Repeats()
    assert repeats.wait_s(0.0) == math.inf
    repeats.add(line("x"), 0.0)
    assert repeats.wait_s(0.0) == LONGEST_SETTLE_S
    assert repeats.due(WINDOW_S) == []
    assert repeats.wait_s(WINDOW_S) == math.inf


# A step: what is said (None: nothing), and the seconds until then.
steps = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d"])),
        st.sampled_from([0.0, 0.01, 0.5, 3.0, 20.0, 70.0]),
    ),
    max_size=60,
)


def told_of(said: list[tuple[Optional[str], float]]) -> tuple[Log, list[tuple[float, str]]]:
    log, happened = Log(), []
    for message, pause in said:
        log.wait(pause)
        if message is not None:
            log.say(message)
            happened.append((log.now, message))
    return log, happened


@given(steps)
def test_all_that_was_said_is_written_or_counted(said: list[tuple[Optional[str], float]]) -> None:
    log, happened = told_of(said)
    log.end()
    for message in "abcd":
        counts = [e.count for _, e in log.written if e.line.message == message]
        assert sum(counts) == [each for _, each in happened].count(message)


@given(steps)
def test_every_line_is_told_within_a_minute(said: list[tuple[Optional[str], float]]) -> None:
    log, _ = told_of(said)
    log.wait(LONGEST_SETTLE_S + TICK_S)
    before_end = list(log.written)
    log.end()
    assert log.written == before_end, "all was told without the end"
    for at, entry in log.written:
        first = entry.since if entry.count > 1 else entry.line.created
        assert at - first <= WINDOW_S + 2 * TICK_S
        assert at - entry.line.created <= LONGEST_SETTLE_S + 2 * TICK_S


@given(steps)
def test_the_log_is_in_the_order_of_what_happened(
    said: list[tuple[Optional[str], float]],
) -> None:
    log, _ = told_of(said)
    log.end()
    times = [entry.line.created for _, entry in log.written]
    assert times == sorted(times)


@given(steps)
def test_there_are_never_more_lines_than_things_that_happened(
    said: list[tuple[Optional[str], float]],
) -> None:
    log, happened = told_of(said)
    log.end()
    assert len(log.written) <= len(happened)
    written_at_once = {e.line.created for at, e in log.written if at == e.line.created}
    first_words = {message: at for at, message in reversed(happened)}
    assert set(first_words.values()) <= written_at_once
