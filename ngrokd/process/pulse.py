"""Whether the threads that everything hangs on still turn."""

from __future__ import annotations

import time
from typing import Callable

FORWARD_LIMIT_S = 5.0  # its turns take milliseconds, and it turns at least every second
LONGEST_NAP_S = 60.0  # the main thread looks at its deadlines at least this often
# A turn of the main thread may well take seconds: ten thousand endpoints that open, a command that
# hangs. Polling every second is no promise to be faster than that.
LEAST_INTERVAL_S = 10.0


class Pulse:
    """Owner: main thread. Any thread asks `forwarding` and `reconciling`."""

    def __init__(
        self, forward_beat: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`forward_beat`: when the forwarding thread last turned, by `clock`."""
        self._forward_beat = forward_beat
        self._clock = clock
        self.nap_s = LONGEST_NAP_S  # after so long the main thread must beat again
        self._due = clock() + 2 * LONGEST_NAP_S  # replaced as a whole

    def beat(self, poll_interval: float) -> None:
        """The main thread turns. Its interval is that of the polls, within bounds."""
        self.nap_s = min(max(poll_interval, LEAST_INTERVAL_S), LONGEST_NAP_S)
        self._due = self._clock() + 2 * self.nap_s

    def forwarding(self) -> bool:
        """Any thread: whether the forwarding thread turns."""
        return self._clock() - self._forward_beat() < FORWARD_LIMIT_S

    def reconciling(self) -> bool:
        """Any thread: whether the main thread turned within twice its interval."""
        return self._clock() < self._due
