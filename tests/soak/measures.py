"""What a daemon holds, as the kernel tells it, and what of that must come back after a soak."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# Python keeps arenas that hold a single living object, and every TLS session that was open at once
# leaves some fragments: that grows with the largest crowd, not with time.
MEMORY_MARGIN_KB = 8 * 1024
IDLE_SHARE = 0.10  # of one processor, for polls and heartbeats: a timer that was lost shows here


@dataclass(frozen=True)
class Measures:
    """At one moment. `cpu_s`: since its start."""

    descriptors: int
    threads: int
    rss_kb: int
    anonymous_kb: int
    cpu_s: float
    at: float

    def __str__(self) -> str:
        return (
            f"{self.descriptors} descriptors, {self.threads} threads, "
            f"{self.rss_kb / 1024:.1f} MB resident ({self.anonymous_kb / 1024:.1f} anonymous)"
        )


def measure(pid: int) -> Measures:
    """Now."""
    folder = Path(f"/proc/{pid}")
    lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Measures(
        len(list((folder / "fd").iterdir())),
        len(list((folder / "task").iterdir())),
        sizes["Rss"],
        sizes["Anonymous"],
        (int(fields[11]) + int(fields[12])) / TICKS,
        time.monotonic(),
    )


def differences(before: Measures, after: Measures) -> list[str]:
    """What did not come back."""
    found = []
    if after.descriptors > before.descriptors:
        found.append(f"descriptors: {before.descriptors} before, {after.descriptors} after")
    if after.threads > before.threads:
        found.append(f"threads: {before.threads} before, {after.threads} after")
    if after.anonymous_kb > before.anonymous_kb + MEMORY_MARGIN_KB:
        found.append(
            f"memory: {before.anonymous_kb} KB before, {after.anonymous_kb} KB after, "
            f"and {MEMORY_MARGIN_KB} KB more would do"
        )
    return found


def idle_share(earlier: Measures, later: Measures) -> float:
    """Of one processor, between the two."""
    return (later.cpu_s - earlier.cpu_s) / (later.at - earlier.at)
