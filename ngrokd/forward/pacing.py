"""When the next warm connection may be made, after one has failed.

Theory of operation. With TLS 1.3 a handshake that is done says nothing about whether the ingress
takes our certificate, or keeps the connection at all. So after a failure one connection at a time
is tried, with pauses that double, until something proves that the ingress serves again: a client
got its answer, or a warm connection that was made after the failure has lived for a while.
"""

from __future__ import annotations

from collections.abc import Iterable

PROOF_S = 1.0  # a connection that waited so long unharmed proves that the ingress keeps them
AT_ONCE = 8  # handshakes under way
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # before another try


class Pacing:
    """Owner: the pool. Times are monotonic."""

    def __init__(self) -> None:
        self.problem = ""  # why none can be made
        self._failed_at = 0.0  # the last failure that counted
        self._pause_s = 0.0  # 0: all is well
        self._try_at = 0.0
        self._rest_until = 0.0  # whatever proves itself meanwhile

    @property
    def in_trouble(self) -> bool:
        """One at a time is tried."""
        return self._pause_s > 0

    @property
    def not_before(self) -> float:
        """When the next one may be made."""
        return max(self._try_at, self._rest_until)

    def unproved(self, waiting: Iterable[float], now: float) -> list[float]:
        """In trouble: of those that wait since then, the ones that may still be dropped at once."""
        return [since for since in waiting if self.in_trouble and now - since < PROOF_S]

    def is_proved_by(self, waiting: Iterable[float], now: float) -> bool:
        """In trouble: one that was made since has lived for a while."""
        return self.in_trouble and any(
            self._failed_at <= since <= now - PROOF_S for since in waiting
        )

    def allowed(self, under_way: int, waiting: Iterable[float], now: float) -> int:
        """How many may be begun now."""
        if now < self.not_before:
            return 0
        if self.in_trouble:
            return 0 if under_way or self.unproved(waiting, now) else 1
        return AT_ONCE - under_way

    def failed(self, now: float, problem: str) -> None:
        """One could not be made, or did not last. Several within a pause count once."""
        self.problem = problem
        if now < self._try_at:
            return
        self._failed_at = now
        self._pause_s = min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._try_at = now + self._pause_s

    def rest(self, now: float) -> None:
        """This machine lacks what they take: none for a while."""
        self._rest_until = now + LONGEST_PAUSE_S

    def proved(self) -> None:
        """The ingress serves."""
        self.problem = ""
        self._pause_s = self._try_at = 0.0
