"""One signal that ends every wait of the sandbox's threads."""

from __future__ import annotations

import select
import socket
from typing import Optional


class StopSignal:
    """Is set once, and then wakes every `poll` that watches its descriptor. Any thread may set it.

    A descriptor rather than an Event: a thread that waits for a socket can wait for it too.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Readable once the signal is set."""
        return self._reader.fileno()

    def wakeup_fd(self) -> int:
        """For `signal.set_wakeup_fd`: each signal that has a Python handler sets this then."""
        return self._writer.fileno()

    def set(self) -> None:
        """Any thread; twice is harmless."""
        self._writer.close()

    def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Whether it is set, waiting up to that long for it."""
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        return bool(poller.poll(None if timeout_s is None else max(0, int(timeout_s * 1000))))

    def close(self) -> None:
        """Only once no thread watches it any more."""
        self._writer.close()
        self._reader.close()
