"""Writes lines to a descriptor without ever waiting long for who reads them."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import stat
import time

# A reader who is a little late misses nothing; one who is slow for good, or hangs, must not make
# everybody wait who has something to say.
PATIENCE_S = 1.0  # in all, in each of these:
PATIENCE_PERIOD_S = 60.0
NOBODY_READS = "who reads it is too slow"


class Patience:
    """Waits a moment for a descriptor to take more. Owner: the handler, whose lock guards this."""

    def __init__(self) -> None:
        self._left_s = 0.0
        self._since = -math.inf  # when it was last as much as it may be

    def wait(self, number: int) -> None:
        """Raises BlockingIOError if there is no room in time."""
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        if poll.poll(0):
            return
        now = time.monotonic()
        if now - self._since >= PATIENCE_PERIOD_S:
            self._since, self._left_s = now, PATIENCE_S
        ready = poll.poll(max(0, math.ceil(self._left_s * 1000)))
        self._left_s -= time.monotonic() - now
        if not ready:
            raise BlockingIOError(errno.EAGAIN, NOBODY_READS)


class Descriptor:
    """Owner: the handler, whose lock guards each call."""

    def __init__(self, number: int, owned: bool) -> None:
        """`owned`: it is closed by `close`."""
        self.number = number
        self.closed = False  # then the number may be another file's
        self._owned = owned
        self._patience = Patience()
        self._torn = False  # the last line was cut short: the next one must not go on in it
        # A pipe that poll(2) calls ready takes so much without blocking; a file takes a line whole,
        # so that those of several programs do not mix.
        self._is_file = stat.S_ISREG(os.fstat(number).st_mode)
        self._piece = None if self._is_file else select.PIPE_BUF

    def write(self, line: str) -> None:
        """Raises OSError: a full disk, a reader who is gone or late. The line is lost then."""
        if self.closed:
            return
        data = f"{line}\n".encode(errors="backslashreplace")
        if self._torn:
            data = b"\n" + data
        while data:
            if not self._is_file:
                self._patience.wait(self.number)
            data = data[os.write(self.number, data[: self._piece]) :]
            self._torn = bool(data)

    def close(self) -> None:
        """For good, if it is owned: what comes after it is not written, without a word."""
        if self._owned and not self.closed:
            self.closed = True
            with contextlib.suppress(OSError):  # what a full disk did not take is lost already
                os.close(self.number)


def of_stream(number: int) -> Descriptor:
    """A standard stream. A terminal is opened anew: it must not become non-blocking for the shell.

    One that is held by Ctrl-S would block us, whatever poll(2) says of it.
    """
    if os.isatty(number):
        with contextlib.suppress(OSError):  # another user's, or there is no /dev
            flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
            return Descriptor(os.open(os.ttyname(number), flags), owned=True)
    return Descriptor(number, owned=False)
