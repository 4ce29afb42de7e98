"""What the clients of a soak met, and what they may have met."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

SLACK_S = 1.0  # of a busy machine, around a disturbance


class Books:
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._disturbances: list[tuple[float, float]] = []
        self.kinds: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()  # by endpoint
        self.up: Counter[str] = Counter()  # bytes by endpoint, of what went well
        self.down: Counter[str] = Counter()
        self.deviations: list[str] = []

    @contextmanager
    def disturbed(self) -> Iterator[None]:
        """What begins or ends meanwhile may fail, as long as the client can see that it does."""
        began = time.monotonic()
        with self._lock:
            self._disturbances.append((began, float("inf")))
        try:
            yield
        finally:
            with self._lock:
                self._disturbances[-1] = (began, time.monotonic())

    def connected(self, name: str) -> None:
        """A client was accepted."""
        with self._lock:
            self.connections[name] += 1

    def carried(self, name: str, up: int, down: int) -> None:
        """All of that arrived."""
        with self._lock:
            self.up[name] += up
            self.down[name] += down

    def good(self, kind: str) -> None:
        """It went as it should."""
        with self._lock:
            self.kinds[kind] += 1

    def cut(self, kind: str, began: float, heard: bool, why: str) -> None:
        """It failed for the client to see: no fault may do that once the far side was heard."""
        if heard:
            self.deviation(f"{kind}: an open connection was cut: {why}")
        elif not self._was_disturbed(began):
            self.deviation(f"{kind}: failed, and nothing disturbed it: {why}")
        else:
            with self._lock:
                self.cuts[kind] += 1

    def deviation(self, text: str) -> None:
        """Something that must never happen."""
        with self._lock:
            self.deviations.append(f"{time.strftime('%H:%M:%S')} {text}")

    def __str__(self) -> str:
        with self._lock:
            good, cut, wrong = sum(self.kinds.values()), sum(self.cuts.values()), self.deviations
            bytes_moved = sum(self.up.values()) + sum(self.down.values())
            return (
                f"{good} went well, {cut} were cut by faults, {len(wrong)} deviations, "
                f"{bytes_moved / 1e6:.0f} MB checked"
            )

    def table(self) -> str:
        """By kind: how many went well, how many were cut."""
        with self._lock:
            kinds = sorted({*self.kinds, *self.cuts})
            rows = [f"  {each:30}{self.kinds[each]:8}{self.cuts[each]:8}" for each in kinds]
        return "\n".join([f"  {'':30}{'well':>8}{'cut':>8}", *rows])

    def _was_disturbed(self, began: float) -> bool:
        with self._lock:
            return any(
                start < time.monotonic() and end > began - SLACK_S
                for start, end in self._disturbances
            )
