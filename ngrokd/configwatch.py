"""Notices that the configuration was saved, so that saving it is enough."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Callable, Optional

PERIOD_S = 2.0

# Inode, size, and time of the last change in nanoseconds; None: there is no such file now, which is
# a state like others: one that stays away is told, and one that an editor just replaces is not.
Stamp = Optional[tuple[int, int, int]]


def stamp(path: Path) -> Stamp:
    """What differs once the file was written or replaced. A link is followed."""
    try:
        found = path.stat()
    except OSError:  # reading it will say why
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class ConfigWatch:
    """Owner: main thread. Times are seconds of one clock that only grows."""

    def __init__(self, paths: Iterable[Path], stamp_of: Callable[[Path], Stamp] = stamp) -> None:
        self._paths = tuple(paths)
        self._stamp_of = stamp_of
        self._taken = self._stamps()
        self._seen = self._taken
        self._next_look = 0.0

    def taken(self) -> None:
        """The files are about to be read: only what changes from now on counts."""
        self._taken = self._seen = self._stamps()

    def changed(self, now: float) -> bool:
        """Whether the files are to be read again.

        Only once they have stayed the same for a period: an editor that writes in place leaves
        half a file for a moment, and half a file may be a valid one with other values.
        """
        if now < self._next_look:
            return False
        self._next_look = now + PERIOD_S
        before, self._seen = self._seen, self._stamps()
        return self._seen == before != self._taken

    def wait_s(self, now: float) -> float:
        """Until `changed` wants to look again."""
        return max(0.0, self._next_look - now)

    def _stamps(self) -> tuple[Stamp, ...]:
        return tuple(self._stamp_of(path) for path in self._paths)
