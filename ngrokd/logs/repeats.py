"""Decides which log lines are written and which are only counted. Pure.

A line that comes again and again is written once and then counted; later one line tells how often
it came. What holds at every moment, so that the log never tells a story that did not happen:

- Nothing is lost: every line is written, or in the count of a line that is.
- Before a line that was not counted is written, every count is told. So the lines that were counted
  together happened between the line before and the line after their counts.
- Counts are told in the order in which their lines last came: the last word is the latest.
- What was counted is told at the latest `LONGEST_SETTLE_S` after it last came, and every `WINDOW_S`
  while it goes on, if `due` is called when `wait_s` says.

Lines that take turns (two endpoints retrying, a state that flaps) are counted, too, but only once
each has been written `PLAIN_WRITES` times: open, failed, open is three lines.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

WINDOW_S = 60.0  # counting is told at least this often; what has not come for so long is new again
FIRST_SETTLE_S = 2.0  # what comes again later than this is no burst; doubled when it is written so
LONGEST_SETTLE_S = 15.0
PLAIN_WRITES = 3  # of a line between others, before it is counted
# What is remembered has a bound, whatever peers make us say: some hundred endpoints' usual lines.
MAX_LINES = 256
MAX_CHARACTERS = 256 * 1024

Key = tuple[int, str, str, str]


@dataclass(frozen=True)
class Line:
    """One thing that happened, free of secrets: `created` in seconds since 1970."""

    created: float
    level: int
    logger: str
    message: str
    trace: str = ""

    @property
    def key(self) -> Key:
        """What two lines have in common that say the same."""
        return self.level, self.logger, self.message, self.trace


@dataclass(frozen=True)
class Entry:
    """What is written as one line: `line`, the latest of `count` that came within `span_s`."""

    line: Line
    count: int = 1
    span_s: float = 0.0
    since: float = 0.0  # when the first of them was created


@dataclass
class _Seen:
    """A line that is remembered. `at` and `first_at` are times of the caller's clock."""

    line: Line
    at: float
    writes: int = 1
    count: int = 0  # not yet told
    first_at: float = 0.0  # when the first of these came
    since: float = 0.0

    @property
    def settle_s(self) -> float:
        doublings = min(self.writes - 1, 10)
        return min(FIRST_SETTLE_S * float(2**doublings), LONGEST_SETTLE_S)

    @property
    def due_at(self) -> float:
        return min(self.first_at + WINDOW_S, self.at + self.settle_s) if self.count else math.inf


class Repeats:
    """Owner: the handler, whose lock guards each call. `now` never goes back."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Key, _Seen] = OrderedDict()  # what came last is last
        self._characters = 0
        self._look_at = math.inf  # nothing is due before; spares a look at all of them at each line

    def add(self, line: Line, now: float) -> list[Entry]:
        """What is to be written now that `line` came, in this order."""
        out = self.due(now)
        key = line.key
        seen = self._seen.get(key)
        if seen is not None and self._is_counted(key, seen, now):
            if not seen.count:
                seen.first_at, seen.since = now, line.created
            seen.count += 1
            seen.line, seen.at = line, now
            self._seen.move_to_end(key)
            self._look_at = min(self._look_at, seen.due_at)
            return out
        out += self.rest()
        self._remember(key, line, now)
        return [*out, Entry(line)]

    def due(self, now: float) -> list[Entry]:
        """What is to be written by now though nothing new came."""
        out = []
        if self._look_at <= now:
            due = [key for key, seen in self._seen.items() if seen.due_at <= now]
            out = list(self._told(due[-1])) if due else []
            self._look_at = self._next_due()
        self._forget(now)
        return out

    def rest(self) -> list[Entry]:
        """All that was counted, at the end or before another line."""
        out = list(self._told(None)) if self._look_at < math.inf else []
        self._look_at = math.inf
        return out

    def wait_s(self, now: float) -> float:
        """How long `due` need not be called; infinite if nothing can become due."""
        due = self._next_due() if self._look_at < math.inf else math.inf
        return max(0.0, min(due - now, LONGEST_SETTLE_S if self._seen else math.inf))

    def _next_due(self) -> float:
        return min((seen.due_at for seen in self._seen.values()), default=math.inf)

    def _is_counted(self, key: Key, seen: _Seen, now: float) -> bool:
        if now - seen.at >= seen.settle_s:
            return False
        return key == next(reversed(self._seen)) or seen.writes >= PLAIN_WRITES

    def _remember(self, key: Key, line: Line, now: float) -> None:
        before = self._seen.pop(key, None)
        if before is None:
            self._characters += len(line.message) + len(line.trace)
        self._seen[key] = _Seen(line, now, before.writes + 1 if before else 1)
        while len(self._seen) > MAX_LINES or self._characters > MAX_CHARACTERS:
            self._drop_oldest()

    def _told(self, last: Key | None) -> Iterator[Entry]:
        """What was counted up to and with `last`, the oldest first."""
        for key, seen in self._seen.items():
            if seen.count:
                yield Entry(seen.line, seen.count, seen.at - seen.first_at, seen.since)
                seen.count = 0
            if key == last:
                return

    def _forget(self, now: float) -> None:
        while self._seen and next(iter(self._seen.values())).at + WINDOW_S <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Its count was told: by `due` long ago, or by `rest` before the line that displaces it."""
        _, seen = self._seen.popitem(last=False)
        self._characters -= len(seen.line.message) + len(seen.line.trace)
