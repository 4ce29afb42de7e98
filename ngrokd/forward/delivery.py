"""When a client that is to be reset is asked whether it has all its bytes."""

from __future__ import annotations

# The kernel throws away what it has not delivered at a reset, and tells nobody when the last byte
# is acknowledged: so it is asked, often while bytes go out, ever less often while none do.
SHORTEST_S = 0.02
LONGEST_S = 1.0


class Delivery:
    """Owner: the relay it belongs to."""

    __slots__ = ("_unsent", "pause_s")

    def __init__(self) -> None:
        self._unsent = -1
        self.pause_s = SHORTEST_S  # until the next look

    def look(self, unsent: int) -> bool:
        """So many bytes are not acknowledged yet; whether that is progress since the last look."""
        progress = unsent != self._unsent
        self._unsent = unsent
        self.pause_s = SHORTEST_S if progress else min(2 * self.pause_s, LONGEST_S)
        return progress
