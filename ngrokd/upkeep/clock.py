"""Notices that the clock was set, or that the machine has slept.

Theory of operation. The wall clock and the monotonic one run side by side, so their difference
stays the same. It changes at a bound when somebody sets the clock (a person, NTP's step) and while
the machine sleeps: then the monotonic clock of Linux and macOS stands still, and the wall clock
shows the time of day after it. Both mean the same for us: what was judged by the date, and what
was connected before, is to be looked at again.
"""

from __future__ import annotations

# A sleep shorter than this ends before a peer, a NAT or a certificate notices; NTP's smallest steps
# (0.1 to 1 s) and a leap second change nothing either.
JUMP_S = 5.0
# Of the time between two looks: adjtimex(2) lets nobody slew faster than 10 %, and chrony uses 8 %.
SLEW = 0.1
# The two clocks are read one after the other. If that took longer, on a machine that is busy or was
# stopped just then, the pair says nothing.
READING_S = 0.5


class ClockWatch:
    """Owner: main thread. Seconds; `before` and `after` are monotonic, read around `wall`."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._looked = 0.0  # monotonic
        self._began = False

    def look(self, before: float, wall: float, after: float) -> float:
        """By how much the wall clock has jumped since the last look; 0: it has not."""
        if after - before > READING_S:
            return 0.0
        middle = (before + after) / 2
        offset, passed = wall - middle, middle - self._looked
        change = offset - self._offset if self._began else 0.0
        self._offset, self._looked, self._began = offset, middle, True
        return change if abs(change) >= JUMP_S + SLEW * passed else 0.0


def jump_text(seconds: float) -> str:
    """For the log: a sleep and a clock that was set forward cannot be told apart."""
    if seconds > 0:
        return f"the machine slept, or its clock was set forward by {_span(seconds)}"
    return f"the machine's clock was set back by {_span(-seconds)}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
