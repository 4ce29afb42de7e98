"""One thing that is tried until it works: when it is due, and what is told of its failures."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable

from ngrokd.errors import NgrokdError
from ngrokd.upkeep.pace import Pace

logger = logging.getLogger(__name__)

MINUTE_S = 60.0
UNBOUNDED = sys.maxsize


class Tries:
    """Owner: main thread. Times are `time.monotonic()` seconds.

    A failure is one line in the log, and its end another one; the same fault again is none.
    """

    def __init__(self, name: str, pace: Pace, requests: Callable[[], int]) -> None:
        """`requests`: how many this machine has sent so far."""
        self.name = name
        self._pace = pace
        self._requests = requests
        self._told: object = None  # the fault that the log has
        self._outage = 0  # failures since it last worked
        self._begun: deque[float] = deque()  # within the last minute
        self.most_a_minute = UNBOUNDED  # whoever asks: an account's limit is for all its machines
        self.busy = False  # one is under way
        self.not_before = 0.0
        self.problem = ""  # for a person; "": it works, or was never tried

    @property
    def failing(self) -> bool:
        """It does not work now."""
        return self._outage > 0

    def wait_s(self, now: float) -> float:
        """Seconds until it is due."""
        wait = self.not_before - now
        if len(self._begun) >= self.most_a_minute:
            wait = max(wait, self._begun[-self.most_a_minute] + MINUTE_S - now)
        return max(0.0, wait)

    def due(self, now: float) -> bool:
        """It is to be tried."""
        return not self.busy and not self.wait_s(now)

    def begin(self, now: float) -> None:
        """It is tried."""
        self.busy = True
        self._begun.append(now)
        while self._begun[0] <= now - MINUTE_S:
            self._begun.popleft()
        self._pace.begins(self._requests())

    def ask_now(self) -> None:
        """It is due, out of turn."""
        self._pace.hurry()
        self.not_before = 0.0

    def hasten(self) -> None:
        """`ask_now`, and the back-off begins anew."""
        self._pace.begin_anew()
        self.ask_now()

    def forgive(self) -> None:
        """What failed is another matter now: nothing of it is a problem any more."""
        self.hasten()
        self.problem, self._told, self._outage = "", None, 0

    def spare(self) -> None:
        """What failed is not needed any more: somebody has seen to it."""
        self._tell_end("is not needed any more,")
        self.forgive()

    def succeeded(self) -> float:
        """It worked; the seconds until it is due again, where it is done time and again."""
        self._tell_end("works again")
        self.problem, self._told, self._outage = "", None, 0
        return self._pace.after_success(self._requests())

    def wait_after(self, error: BaseException) -> float:
        """It did not work; the seconds until it should be tried again."""
        self._outage += 1
        return self._pace.after_failure(error, self._requests())

    def failed(self, error: NgrokdError, now: float, wait: float) -> None:
        """After `wait_after`: what is told, and when it is tried again in truth."""
        self.not_before = now + wait
        self.problem = f"{self.name} failed: {error}"
        if error.fault != self._told:
            when = f"in {wait:.0f} s" if wait >= 1 else "at once"
            # Some texts of the API's errors say already that it is tried or registered again.
            said = "" if self.problem.endswith(" again") else "; it is tried again"
            logger.warning("%s%s %s", self.problem, said, when)
        self._told = error.fault

    def _tell_end(self, how: str) -> None:
        if self._told is not None:
            times = "1 failure" if self._outage == 1 else f"{self._outage} failures"
            logger.info("%s %s after %s", self.name, how, times)
