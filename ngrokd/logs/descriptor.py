"""Writes lines to a descriptor without ever waiting long for who reads them."""

from __future__ import annotations

import errno
import os
import select
import stat

PATIENCE_S = 1.0  # once; a reader who is late is not waited for again until there is room
_NOBODY_READS = "who reads it is too slow"


class Patience:
    """Waits until a descriptor takes more. Owner: the handler, whose lock guards each call."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._late = False

    def wait(self, number: int) -> None:
        """Raises BlockingIOError if there is no room in time."""
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        ready = poll.poll(0 if self._late else self._patience_s * 1000)
        self._late = not ready
        if not ready:
            raise BlockingIOError(errno.EAGAIN, _NOBODY_READS)


class Descriptor:
    """Owner: the handler, whose lock guards each call. Closing it is the maker's business."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._patience = Patience()
        self._torn = False  # the last line was cut short: the next one must not go on in it
        # A pipe that poll(2) calls ready takes so much without blocking; a file takes a line whole,
        # so that those of several programs do not mix.
        is_file = stat.S_ISREG(os.fstat(number).st_mode)
        self._piece = None if is_file else select.PIPE_BUF

    def write(self, line: str) -> None:
        """Raises OSError: a full disk, a reader who is gone or late. The line is lost then."""
        data = f"{line}\n".encode(errors="backslashreplace")
        if self._torn:
            data = b"\n" + data
        while data:
            self._patience.wait(self._number)
            data = data[os.write(self._number, data[: self._piece]) :]
            self._torn = bool(data)
