"""A stopwatch that measures the program and not the machine that it shares with others."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

_THREADS = Path("/proc/self/task")


class Stopwatch:
    """Runs from the moment it is made. Owner: the test."""

    def __init__(self) -> None:
        self._waited = _kept_waiting()
        self._began = time.monotonic()

    def wall(self) -> float:
        """Seconds that have passed: for a least time."""
        return time.monotonic() - self._began

    def own(self) -> float:
        """The same without those in which a thread of ours would have worked, and others did.

        For a longest time. On a machine that does nothing else it is what has passed.
        """
        waited = sum(
            max(0.0, seconds - self._waited.get(thread, 0.0))
            for thread, seconds in _kept_waiting().items()
        )
        return self.wall() - waited


def _kept_waiting() -> dict[str, float]:
    """Per thread, seconds on a run queue (proc_pid_schedstat(5)); {}: no Linux tells them."""
    found = {}
    for folder in _THREADS.glob("*"):
        with contextlib.suppress(OSError, IndexError):  # it ended, or the kernel does not count
            found[folder.name] = int((folder / "schedstat").read_text().split()[1]) / 1e9
    return found
