"""When our section goes back into a file from which another program keeps taking it. Pure."""

from __future__ import annotations

# Somebody who removes it once or twice by hand has it back at the next look.
_AT_ONCE = 2

# After that each wait is twice the one before. The longest keeps a fight to six writes an hour, and
# is how long names can be missing once the other program has stopped.
_FIRST_WAIT_S = 30.0
_LONGEST_WAIT_S = 600.0

# Our section was left alone for so long: whoever took it away is thought to have stopped.
_CALM_S = 300.0


class Dispute:
    """Counts how often the section was lost. Owner: main. `now` in monotonic seconds."""

    def __init__(self) -> None:
        self._losses = 0
        self._is_lost = False
        self._put_back_at = 0.0
        self._due_at = 0.0

    @property
    def is_on(self) -> bool:
        """It was lost so often in a row that a person should know."""
        return self._losses > _AT_ONCE

    def kept(self, now: float) -> None:
        """It was found as we had left it."""
        if self._is_lost:  # another one has put it back
            self._is_lost, self._put_back_at = False, now
        elif now - self._put_back_at >= _CALM_S:
            self._losses = 0

    def lost(self, now: float) -> None:
        """It was found missing or changed; told again until `put_back`, it is still one loss."""
        if self._is_lost:
            return
        self._is_lost = True
        self._losses += 1
        self._due_at = now + _wait_s(self._losses)

    def wait_s(self, now: float) -> float:
        """Seconds until it may be put back; 0: now, or it is there."""
        return max(0.0, self._due_at - now) if self._is_lost else 0.0

    def put_back(self, now: float) -> None:
        """It is written."""
        if self._is_lost:
            self._is_lost, self._put_back_at = False, now


def _wait_s(losses: int) -> float:
    if losses <= _AT_ONCE:
        return 0.0
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(losses - _AT_ONCE - 1, 16))
