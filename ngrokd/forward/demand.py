"""How many warm connections are worth having: what was asked for, or what clients needed lately."""

from __future__ import annotations

from collections import deque
from typing import Optional

SLOT_S = 0.5  # clients of this time may come at once: making a connection takes about as long
MEMORY_S = 120.0  # after so long without a client none is kept
GENERATIONS = 4  # and none is replaced more often than that for a client who may never come
STEADY_S = 30.0  # those that live shorter are not kept at all times, even where a number is set
MOST = 32  # of `auto`: about a megabyte, and as many handshakes at most for nothing

OFF, AUTO = "off", "auto"


class Demand:
    """`auto`: as many as came within one slot of the last minutes at most. Owner: the pool.

    A number is followed at all times, unless the far side drops them so soon that it would mean
    making new ones all the time for nobody.

    Times are monotonic.
    """

    def __init__(self, setting: str) -> None:
        """`setting`: off, auto or a number in digits."""
        self.setting = setting
        self._memory_s = MEMORY_S
        self._slots: deque[tuple[int, int]] = deque()  # (slot, clients), oldest first

    def client(self, now: float) -> None:
        """A client came, for whom one was needed."""
        slot = int(now / SLOT_S)
        if self._slots and self._slots[-1][0] == slot:
            self._slots[-1] = (slot, self._slots[-1][1] + 1)
        else:
            self._forget(now)
            self._slots.append((slot, 1))

    def wanted(self, now: float, lifetime_s: float = MEMORY_S) -> int:
        """How many should be ready, if each lives so long."""
        self._memory_s = min(MEMORY_S, GENERATIONS * lifetime_s)
        if self.setting == OFF:
            return 0
        self._forget(now)
        lately = max((clients for _, clients in self._slots), default=0)
        if self.setting == AUTO:
            return min(lately, MOST)
        number = int(self.setting)
        return number if lifetime_s >= STEADY_S else min(lately, number)

    def next_change(self) -> Optional[float]:
        """When `wanted` may be less, without another client."""
        if not self._slots:
            return None
        return self._slots[0][0] * SLOT_S + self._memory_s

    def _forget(self, now: float) -> None:
        while self._slots and self._slots[0][0] * SLOT_S + self._memory_s <= now:
            self._slots.popleft()
