"""Wakes a thread that waits in a selector, from any other thread."""

from __future__ import annotations

import socket


class Waker:
    """The end of a socket pair that any thread writes to. Closed by who lets go of it last."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)

    def wake(self) -> None:
        """Any thread; never blocks."""
        try:
            self._sock.send(b"\0")
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return  # enough wake-ups wait already, or who waited has just ended

    def __del__(self) -> None:
        self._sock.close()
