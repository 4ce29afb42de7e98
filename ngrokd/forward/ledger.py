"""What the connections did: counters by target, and how long tunnels took to open."""

from __future__ import annotations

import bisect
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Optional

from ngrokd.model import Cause, Counters, Failure, Target, WarmStatus

CONNECT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# What the connections of an endpoint did is told for so long after it went, since it may come back,
# and of no more such endpoints than were ever served at once, or this many.
KEPT_S = 24 * 3600.0
KEPT_AT_LEAST = 100


@dataclass(frozen=True)
class Histogram:
    """How many observations were at most each of `bounds` (cumulative), their sum and number."""

    bounds: tuple[float, ...] = CONNECT_BOUNDS_S  # seconds
    counts: tuple[int, ...] = (0,) * len(CONNECT_BOUNDS_S)
    sum: float = 0.0
    count: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The whole ledger at one moment, and what waits for the next clients."""

    counters: dict[Target, Counters] = field(default_factory=dict)
    forgotten: Counters = field(default_factory=Counters)  # the sum of what is not kept by target
    open: int = 0
    connect_seconds: Histogram = field(default_factory=Histogram)
    warm: WarmStatus = field(default_factory=WarmStatus)


class Tally:
    """One target's running numbers. Owner: forward."""

    def __init__(self) -> None:
        self.open = 0
        self.total = 0
        self.failed = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self.last_activity: Optional[float] = None  # Unix seconds
        self.last_failure: Optional[Failure] = None
        self.last_failed_at: Optional[float] = None  # Unix seconds
        self.failures: dict[Cause, int] = {}
        self._told = Counters()
        self._told_of = self._marks()

    def _marks(self) -> tuple[object, ...]:
        """Of which one is another whenever something has been counted."""
        moments = self.last_activity, self.last_failed_at
        return self.open, self.total, self.failed, self.bytes_up, self.bytes_down, *moments

    def fail(self, failure: Failure) -> None:
        """A connection never got through, or was cut by a fault."""
        self.failed += 1
        self.last_failure = failure
        self.last_failed_at = time.time()
        self.failures[failure.cause] = self.failures.get(failure.cause, 0) + 1

    def add(self, other: Tally) -> None:
        """Another target's numbers, of which no connection is open."""
        self.total += other.total
        self.failed += other.failed
        self.bytes_up += other.bytes_up
        self.bytes_down += other.bytes_down
        for cause, times in other.failures.items():
            self.failures[cause] = self.failures.get(cause, 0) + times

    def freeze(self) -> Counters:
        """The numbers as they are now.

        Those of ten thousand endpoints are asked for at once while clients wait, and few of them
        have changed since.
        """
        marks = self._marks()
        if marks != self._told_of:
            self._told, self._told_of = self._counters(), marks
        return self._told

    def _counters(self) -> Counters:
        last = self.last_failure
        return Counters(
            self.open,
            self.total,
            self.failed,
            self.bytes_up,
            self.bytes_down,
            self.last_activity,
            last.text if last else "",
            last.cause if last else None,
            self.last_failed_at,
            tuple(self.failures.items()),
        )


class Ledger:
    """All numbers of the forwarding thread. Owner: forward."""

    def __init__(self) -> None:
        self._tallies: dict[Target, Tally] = {}
        self._gone: dict[Target, float] = {}  # monotonic, since when; the oldest first
        self._most_served = 0
        self._forgotten = Tally()
        self._connect_counts = [0] * len(CONNECT_BOUNDS_S)
        self._connect_sum = 0.0
        self._connect_count = 0

    def of(self, target: Target) -> Tally:
        """The target's numbers, made at first sight."""
        tally = self._tallies.get(target)
        if tally is None:
            tally = self._tallies[target] = Tally()
        return tally

    def settle(self, served: AbstractSet[Target], now: float) -> None:
        """Forgets targets that are not `served` any more: since long, or as some of too many."""
        self._most_served = max(self._most_served, len(served))
        for target in served:
            self._gone.pop(target, None)
        for target, tally in self._tallies.items():
            if target not in served and not tally.open:
                self._gone.setdefault(target, now)
        kept = max(self._most_served, KEPT_AT_LEAST)
        for target, since in tuple(self._gone.items()):
            if len(self._gone) <= kept and now - since < KEPT_S:
                break
            del self._gone[target]
            self._forgotten.add(self._tallies.pop(target))

    def opened(self, seconds: float) -> None:
        """A tunnel opened, this long after its client was accepted."""
        self._connect_sum += seconds
        self._connect_count += 1
        at = bisect.bisect_left(CONNECT_BOUNDS_S, seconds)
        for bucket in range(at, len(CONNECT_BOUNDS_S)):
            self._connect_counts[bucket] += 1

    @property
    def open(self) -> int:
        """Connections now, opening ones included."""
        return sum(tally.open for tally in self._tallies.values())

    def freeze(self, warm: WarmStatus) -> Snapshot:
        """Everything as it is now."""
        counters = {target: tally.freeze() for target, tally in self._tallies.items()}
        histogram = Histogram(
            CONNECT_BOUNDS_S, tuple(self._connect_counts), self._connect_sum, self._connect_count
        )
        return Snapshot(counters, self._forgotten.freeze(), self.open, histogram, warm)
