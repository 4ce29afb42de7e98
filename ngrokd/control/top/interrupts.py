"""Signals while the terminal is ours: they are noted, and the loop that waits is woken."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Optional

# SIGQUIT too, by Ctrl-\: it would leave the terminal as it is.
_ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_WAKING = (*_ENDING, signal.SIGWINCH, signal.SIGCONT)


class Interrupts:
    """Between `with` and its end. Owner: the main thread; `wake` any thread.

    `ended_by` is the first signal that ends the program, 0 before one has come.
    """

    def __init__(self) -> None:
        self.ended_by = 0
        self._before: dict[int, Any] = {}
        self._reading, self._writing = os.pipe()
        for end in (self._reading, self._writing):
            os.set_blocking(end, False)
        self._fd_before = -1

    def __enter__(self) -> Interrupts:
        self._fd_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _WAKING:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        exc: Optional[BaseException],
        where: Optional[TracebackType],
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        # The pipe stays: a thread that still waits for a daemon may wake us a last time.

    def fileno(self) -> int:
        """Readable once something has come."""
        return self._reading

    def clear(self) -> None:
        """Reads what woke the loop."""
        try:
            while os.read(self._reading, 4096):
                pass
        except BlockingIOError:
            return  # all of it is read

    def wake(self) -> None:
        """Any thread."""
        try:
            os.write(self._writing, b"\0")
        except BlockingIOError:
            return  # full of calls to wake up: one is enough

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        if number in _ENDING and not self.ended_by:
            self.ended_by = number
