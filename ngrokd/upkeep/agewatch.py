"""Looks at the certificate's age from time to time, and speaks up when little of it is left."""

from __future__ import annotations

import logging
import time
from typing import Optional

from ngrokd.cloud import expiry
from ngrokd.cloud.certificate import Validity
from ngrokd.cloud.registration import renewal_time

logger = logging.getLogger(__name__)

SHORTEST_WAIT_S = 1.0


class AgeWatch:
    """Owner: main thread. Times are `time.monotonic()` seconds unless a name says otherwise."""

    def __init__(self) -> None:
        self.wall = 0.0  # Unix seconds at the last look
        self._next = 0.0
        self._warned: Optional[int] = None  # the last of `expiry.WARN_DAYS` that was told

    def due(self, now: float) -> bool:
        """It is time for a look."""
        return now >= self._next

    def wait_s(self, now: float) -> float:
        """Until the next look."""
        return max(0.0, self._next - now)

    def look_again(self) -> None:
        """A look is due: the clock or the certificate is another one."""
        self._next = 0.0

    def look(self) -> None:
        """Take the wall clock's time, which all judgements until the next look go by."""
        self.wall = time.time()

    def plan(self, validity: Optional[Validity], now: float, interval: float) -> None:
        """The next look is after `interval`, or as soon as the certificate is due or ends."""
        waits = [interval]
        if validity is not None:
            moments = (renewal_time(validity), validity.not_after)
            waits += [moment - self.wall for moment in moments if moment > self.wall]
        self._next = now + max(min(waits), SHORTEST_WAIT_S)

    def warn(self, validity: Optional[Validity], problem: str) -> None:
        """One line for each of `expiry.WARN_DAYS` that comes while `problem` keeps us from renewing
        ("": nothing does)."""
        reached = None if validity is None else expiry.threshold(validity, self.wall)
        if validity is None or reached is None:
            self._warned = None
        elif problem and (self._warned is None or reached < self._warned):
            self._warned = reached
            words = expiry.left_in_words(validity, time.time())
            logger.warning("the certificate %s and could not be renewed: %s", words, problem)
