"""One connection in service: what its client may take, and how it is asked to make room."""

from __future__ import annotations

import contextlib
import enum
import socket
import time

READ_BYTES = 64 * 1024
LINGER_S = 1.0  # for a client to take its answer and close


class Dismissed(Exception):
    """Others need this client's place, and nothing of its was being done. Handler: tell it so."""


class Phase(enum.Enum):
    """How a visit stands."""

    AWAITED = "awaited"  # its request, or its end
    SERVED = "served"  # what it asked for is being done
    TAKING = "taking"  # its answer is being sent


class Visit:
    """Owner: the connection's thread. The accepting thread ends it early and reads `standing`.

    `brief`: it is served where all others wait meanwhile, so nothing may take long.
    """

    def __init__(self, conn: socket.socket, brief: bool = False) -> None:
        self.conn = conn
        self.brief = brief
        self._standing = (Phase.AWAITED, time.monotonic())  # replaced as a whole by its owner
        self._dismissed = False  # the accepting thread's

    # ON THE ACCEPTING THREAD

    @property
    def standing(self) -> tuple[Phase, float]:
        """The phase, and since when (monotonic)."""
        return self._standing

    @property
    def dismissed(self) -> bool:
        """It was told to end."""
        return self._dismissed

    def dismiss(self) -> None:
        """Its next read that finds nothing raises Dismissed; what is being done is answered."""
        self._end(socket.SHUT_RD)

    def cut(self) -> None:
        """What is on its way to it is lost."""
        self._end(socket.SHUT_RDWR)

    def _end(self, how: int) -> None:
        self._dismissed = True
        with contextlib.suppress(OSError):  # it has just ended by itself
            self.conn.shutdown(how)

    # ON THE CONNECTION'S THREAD

    def now(self, phase: Phase) -> None:
        """It stands so from now on."""
        self._standing = (phase, time.monotonic())

    def send(self, answer: bytes, timeout_s: float) -> None:
        """Raises OSError if it does not take it all in time."""
        self.now(Phase.TAKING)
        self.conn.settimeout(timeout_s)
        self.conn.sendall(answer)

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
        self.now(Phase.AWAITED)
        deadline = time.monotonic() + LINGER_S
        with contextlib.suppress(Dismissed):  # it has all that it gets
            while self.receive(deadline):
                pass  # what comes after the last answer is read so that it is not "unread"
