"""One thing that is tried until it works: when it is due, and what is told of its failures."""

from __future__ import annotations

import logging

from ngrokd.errors import ApiError

logger = logging.getLogger(__name__)


class Tries:
    """Owner: main thread. Times are `time.monotonic()` seconds.

    A failure is one line in the log, and its end another one; the same fault again is none.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.busy = False  # one is under way
        self.not_before = 0.0
        self.failures = 0  # in a row, since the back-off began
        self.problem = ""  # for a person; "": it works, or was never tried
        self._outage = 0  # failures since it last worked
        self._told: object = None  # the fault that the log has

    @property
    def failing(self) -> bool:
        """It does not work now."""
        return self._outage > 0

    def due(self, now: float) -> bool:
        """It is to be tried."""
        return not self.busy and now >= self.not_before

    def hasten(self) -> None:
        """It is due, and the back-off begins anew."""
        self.failures, self.not_before = 0, 0.0

    def forgive(self) -> None:
        """What failed is another matter now: nothing of it is a problem any more."""
        self.hasten()
        self.problem, self._told = "", None

    def succeeded(self) -> None:
        """It worked."""
        if self._told is not None:
            times = "1 failure" if self._outage == 1 else f"{self._outage} failures"
            logger.info("%s works again after %s", self._name, times)
        self.failures = self._outage = 0
        self.problem, self._told = "", None

    def count(self) -> int:
        """One more failure; how many in a row."""
        self.failures += 1
        self._outage += 1
        return self.failures

    def failed(self, error: BaseException, now: float, wait: float) -> None:
        """It did not work (after `count`), and is tried again in `wait` seconds."""
        self.not_before = now + wait
        self.problem = f"{self._name} failed: {error}"
        fault = _fault(error)
        if fault != self._told:
            when = f"in {wait:.0f} s" if wait >= 1 else "at once"
            # Some texts of the API's errors say already that it is tried or registered again.
            said = "" if self.problem.endswith(" again") else "; it is tried again"
            logger.warning("%s%s %s", self.problem, said, when)
        self._told = fault


def _fault(error: BaseException) -> object:
    """What makes it another fault than the last one: texts hold an id that is never the same."""
    if isinstance(error, ApiError):
        return type(error), error.status, error.code
    return str(error)
