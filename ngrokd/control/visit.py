"""One connection in service: what its client may take, and how it is asked to make room."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Optional

READ_BYTES = 64 * 1024
LINGER_S = 1.0  # for a client to take its answer and close


class Dismissed(Exception):
    """Others need this client's place, and nothing of its was being done. Handler: tell it so."""


class Visit:
    """Owner: the connection's thread. The accepting thread calls `dismiss` and reads `idle_since`.

    `brief`: it is served where all others wait meanwhile, so nothing may take long.
    """

    def __init__(self, conn: socket.socket, brief: bool = False) -> None:
        self.conn = conn
        self.brief = brief
        # Monotonic; None: something is being done for it. Replaced as a whole by its owner.
        self.idle_since: Optional[float] = time.monotonic()
        self._dismissed = False

    @property
    def dismissed(self) -> bool:
        """Any thread."""
        return self._dismissed

    def dismiss(self) -> None:
        """Accepting thread: its next read that finds nothing raises Dismissed."""
        self._dismissed = True
        with contextlib.suppress(OSError):  # it has just ended by itself
            self.conn.shutdown(socket.SHUT_RD)

    def busy(self) -> None:
        """What it asked for is being done."""
        self.idle_since = None

    def idle(self) -> None:
        """It is waited for again."""
        self.idle_since = time.monotonic()

    def receive(self, deadline: float) -> bytes:
        """Reads what is there, `b""` at the end.

        Raises TimeoutError at `deadline` (monotonic), and Dismissed.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer was too slow")
        self.conn.settimeout(left)
        try:
            data = self.conn.recv(READ_BYTES)
        except socket.timeout as exc:  # an alias of TimeoutError only since Python 3.10
            raise TimeoutError("the peer was too slow") from exc
        if not data and self._dismissed:
            raise Dismissed
        return data

    def linger(self) -> None:
        """Ends our side and waits a little for the peer's end.

        Closing at once with unread bytes would reset the connection under the answer.
        """
        self.conn.shutdown(socket.SHUT_WR)
        self.idle()
        deadline = time.monotonic() + LINGER_S
        with contextlib.suppress(Dismissed):  # it has all that it gets
            while self.receive(deadline):
                pass  # what comes after the last answer is read so that it is not "unread"
