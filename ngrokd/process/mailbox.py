"""Where the main thread waits: for messages of other threads, and for descriptors of its own.

Theory of operation. A queue's own timeout is counted on the wall clock where the system has no
sem_clockwait(3), as macOS and glibc before 2.30: set back by a day, it would hold up the main
thread for a day. A selector counts on the monotonic clock everywhere, and waits for descriptors
besides. A byte in a socket wakes it; where no
more bytes fit, enough of them wait already.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from typing import Callable, Optional

from ngrokd.forward.waker import Waker
from ngrokd.messages import Message

WAKE_BYTES = 4096  # read from the wake-up socket at once


class Mailbox:
    """Owner: main, which takes out. Any thread: `post`."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._selector = selectors.DefaultSelector()
        self._sleeper, waker = socket.socketpair()
        self._sleeper.setblocking(False)
        self._waker: Optional[Waker] = Waker(waker)
        del waker
        self.watch(self._sleeper.fileno(), self._awake)

    def post(self, message: Message) -> None:
        """Any thread. After `close` nobody takes it out any more."""
        self._messages.append(message)
        waker = self._waker
        if waker is not None:
            waker.wake()

    def watch(self, fd: int, on_ready: Callable[[], bool]) -> None:
        """`get` calls this whenever there is something to read, until `unwatch`.

        It returns whether that is a reason for `get` to return.
        """
        self._selector.register(fd, selectors.EVENT_READ, on_ready)

    def unwatch(self, fd: int) -> None:
        """Before the descriptor is closed."""
        self._selector.unregister(fd)

    def get(self, timeout_s: float) -> Optional[Message]:
        """The oldest message; `None`: none came in time, or a descriptor gave reason to return."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            # Also with messages waiting: what descriptors tell must not pile up behind them.
            ready = self._selector.select(0 if self._messages else left_s)
            is_enough = [key.data() for key, _ in ready]
            if self._messages:
                return self._messages.popleft()
            if any(is_enough) or time.monotonic() >= deadline:
                return None

    def close(self) -> None:
        """Gives the descriptors back. Other threads may still post."""
        self._waker = None
        self._sleeper.close()
        self._selector.close()

    def _awake(self) -> bool:
        self._sleeper.recv(WAKE_BYTES)  # what is left wakes the next `get`
        return False
