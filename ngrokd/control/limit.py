"""How often something may be done."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable


class RateLimit:
    """At most `times` within any `period_s` seconds. Any thread.

    Each of the `times` permits is one entry in a queue: the moment from which it may be used again.
    Taking an entry out is atomic and the earliest comes first, so no lock is needed.
    """

    def __init__(
        self, times: int, period_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._period_s = period_s
        self._now = now
        self._permits: queue.PriorityQueue[float] = queue.PriorityQueue()
        for _ in range(times):
            self._permits.put(now())

    def seconds_to_wait(self) -> float:
        """0: it may be done and has been counted. Else how long to wait before asking again."""
        try:
            usable_from = self._permits.get_nowait()
        except queue.Empty:  # every permit is being looked at by another thread at this moment
            return self._period_s
        now = self._now()
        wait = max(0.0, usable_from - now)
        self._permits.put(usable_from if wait else now + self._period_s)
        return wait
