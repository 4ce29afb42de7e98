"""The warm connections that wait, oldest first: who is taken, and who is left."""

from __future__ import annotations

from typing import Callable, Optional

from ngrokd.forward.uplink import Uplink
from ngrokd.forward.warm import Warm


class Stock:
    """Owner: the pool. Whoever is retired is left in order, and is here no more."""

    def __init__(self) -> None:
        self._waiting: list[Warm] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, warm: Warm) -> None:
        """It is ready."""
        self._waiting.append(warm)

    def drop(self, warm: Warm) -> None:
        """It ended by itself; harmless if it is not here any more."""
        if warm in self._waiting:
            self._waiting.remove(warm)

    def take(self, now: float, limit_s: float) -> Optional[Uplink]:
        """The youngest, which is the likeliest to live; those that have waited so long retire."""
        while self._waiting:
            warm = self._waiting.pop()
            if now - warm.uplink.since < limit_s:
                return warm.uplink
            warm.retire()
        return None

    def retire_older(self, now: float, limit_s: float) -> list[float]:
        """Those that have waited so long; their ages."""
        ages = []
        while self._waiting and now - self._waiting[0].uplink.since >= limit_s:
            ages.append(now - self._waiting[0].uplink.since)
            self._waiting.pop(0).retire()
        return ages

    def retire_to(self, count: int) -> None:
        """The oldest, until so many are left."""
        while len(self._waiting) > count:
            self._waiting.pop(0).retire()

    def retire_if(self, is_useless: Callable[[Uplink], bool]) -> None:
        """Those for which that holds."""
        for warm in list(self._waiting):
            if is_useless(warm.uplink):
                self._waiting.remove(warm)
                warm.retire()

    def since(self) -> list[float]:
        """When each was made, oldest first (monotonic)."""
        return [warm.uplink.since for warm in self._waiting]
