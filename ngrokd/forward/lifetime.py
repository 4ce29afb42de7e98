"""How long a warm connection may wait, learned from when the far side drops the waiting ones.

Theory of operation. Nobody documents how long the ingress keeps a connection that has not asked for
anything. So each time it drops one, the age of that one is noted. Connections dropped at the same
moment count once: that may be a restart, or a network that went away. Two drops in a row at about
the same age are a rule of the far side's, and from then on none is kept as long as that. A few in a
row that did not even live a second say that it wants none, if a client is served meanwhile: else
they say that it fails, or does not know our certificate.

In a row means soon after each other, and with none between them that lived longer. A lesson is
forgotten an hour after it was last seen to hold, and when the ingress is another: far sides change,
too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

OLDEST_S = 600.0  # without a lesson: keep-alive probes keep a NAT's memory, but tickets get old
SHORTEST_S = 1.0  # what does not live so long is not worth its handshake
SHORT_LIVES = 3  # in a row, before none is kept
MARGIN = 0.75  # of the age at which the far side drops them
ALIKE = 0.75  # two ages of which the smaller is at least this part of the larger
ONE_EVENT_S = 1.0  # drops within this time have one cause
ROW_S = 120.0  # drops are in a row if so much more than their age lies between them
LESSON_S = 3600.0


@dataclass(frozen=True)
class Lesson:
    """What has been learned: at most how old they may get. 0: none is kept."""

    limit_s: float
    learned_at: float  # or last seen to hold; monotonic

    def __str__(self) -> str:
        """For the log."""
        if not self.limit_s:
            return (
                "the ingress does not let a connection wait for its first request, so none is kept "
                "warm (`forward.warm_connections`)"
            )
        return (
            "the ingress drops connections that wait long for their first request: warm ones are "
            f"replaced after {self.limit_s:.1f} s"
        )


class Lifetime:
    """Owner: the pool. Times are monotonic."""

    def __init__(self) -> None:
        self._lesson: Optional[Lesson] = None
        self._last_age = math.inf  # of the last drop
        self._last_drop = -math.inf  # when
        self._short_lives = 0
        self._served = False  # a client, since the first of those

    def limit_s(self, now: float) -> float:
        """The age at which one is replaced; 0: none is kept."""
        if self._lesson is not None and now - self._lesson.learned_at >= LESSON_S:
            self.forget()
        return self._lesson.limit_s if self._lesson is not None else OLDEST_S

    def forgotten_at(self) -> Optional[float]:
        """When the lesson ends; `None`: there is none."""
        return None if self._lesson is None else self._lesson.learned_at + LESSON_S

    def dropped(self, age_s: float, now: float) -> Optional[Lesson]:
        """The far side ended one that had waited so long. What that teaches, if it is news."""
        if now - self._last_drop < ONE_EVENT_S:
            return None
        if now - self._last_drop > ROW_S + 2 * age_s:
            self._begin_anew()
        before, self._last_age, self._last_drop = self._last_age, age_s, now
        if age_s < SHORTEST_S:
            self._short_lives += 1
            return self._learn_none(now)
        self._short_lives = 0
        alike = min(before, age_s) >= ALIKE * max(before, age_s)
        return self._learn(MARGIN * min(before, age_s), now) if alike else None

    def survived(self, age_s: float) -> None:
        """One was of use, or could be left in order, after it had waited so long."""
        if age_s >= SHORTEST_S and age_s >= self._last_age:
            self._begin_anew()

    def served(self, now: float) -> Optional[Lesson]:
        """A client got its answer: the ingress takes our certificate, and does not merely fail."""
        self._served = self._short_lives > 0
        return self._learn_none(now)

    def forget(self) -> None:
        """The ingress is another, or has had its time."""
        self._lesson = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._last_age = math.inf
        self._short_lives = 0
        self._served = False

    def _learn_none(self, now: float) -> Optional[Lesson]:
        enough = self._served and self._short_lives >= SHORT_LIVES
        return self._learn(0.0, now) if enough else None

    def _learn(self, limit_s: float, now: float) -> Optional[Lesson]:
        known = self._lesson
        if known is not None and known.limit_s <= limit_s:
            if known.limit_s >= ALIKE * limit_s:  # it still holds: no news, and not to be forgotten
                self._lesson = Lesson(known.limit_s, now)
            return None
        self._lesson = Lesson(limit_s, now)
        return self._lesson
