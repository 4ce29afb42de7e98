"""What the kernel has counted of a process: CPU time and memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.rest import at_rest, memory_of

__all__ = ["Busy", "at_rest", "cpu_seconds", "memory_of"]

# The clock id of another process's CPU time (linux/posix-timers.h): CPUCLOCK_SCHED.
_SCHED = 2
_CHILDREN = slice(13, 15)  # cutime and cstime, counted from the field after the name's bracket
_TICKS_PER_S = 100  # USER_HZ, the same on every Linux


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads, also ended ones, and of the children it waited for.

    By the process's CPU clock: utime and stime of /proc tell the same in steps of 10 ms.
    """
    own = time.clock_gettime((~pid << 3) | _SCHED)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own + sum(map(int, fields[_CHILDREN])) / _TICKS_PER_S


@dataclass
class Busy:
    """CPU time that processes take between `begin` and `end`. Owner: who measures."""

    pids: tuple[int, ...]

    def begin(self) -> None:
        """From now on."""
        self._before = [cpu_seconds(pid) for pid in self.pids]

    def end(self) -> list[float]:
        """Seconds of each since `begin`."""
        return [cpu_seconds(pid) - before for pid, before in zip(self.pids, self._before)]
