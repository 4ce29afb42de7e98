"""One socket of a connection, and what the loop watches it for."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Optional

from ngrokd.forward import sockets
from ngrokd.forward.backlog import Bytes
from ngrokd.forward.bare import bare
from ngrokd.forward.loop import Loop, Participant

UNANSWERED_PULSES = 3  # pulses in a row without an acknowledgement after which a peer has vanished


class LegLost(Exception):
    """A socket broke. Handler: the connection it belongs to, which knows what follows."""

    def __init__(self, leg: Leg, fault: OSError) -> None:
        super().__init__(str(fault))
        self.leg = leg
        self.fault = fault


class Leg:
    """Owner: forward. Methods that touch the socket raise `LegLost`."""

    __slots__ = ("_loop", "_participant", "_sock", "_unanswered", "fd", "watched")

    def __init__(self, sock: socket.socket, loop: Loop, participant: Participant) -> None:
        self.fd = sock.fileno()
        self._sock = sock
        self._loop = loop
        self._participant: Optional[Participant] = participant  # None: given up
        self.watched = 0  # in READ and WRITE bits
        self._unanswered = 0

    def hand_over(self, participant: Participant) -> None:
        """Another one is called from now on."""
        self._participant = participant
        if self.watched:
            self._loop.hand_over(self.fd, participant)

    def want(self, events: int) -> None:
        """Watch for `events` (0: not at all); the selector is told only of changes."""
        if events == self.watched or self._participant is None:
            return
        if events:
            self._loop.watch(self.fd, events, self._participant)
        else:
            self._loop.unwatch(self.fd)
        self.watched = events

    def check(self) -> None:
        """Notice how connect(2) ended, or a reset, without reading."""
        error = sockets.pending_error(self._sock)
        if error:
            raise LegLost(self, OSError(error, os.strerror(error)))

    def has_spoken(self) -> bool:
        """Whether bytes or a FIN wait, which stay where they are. A reset alone: `LegLost`."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError as exc:
            raise LegLost(self, bare(exc)) from exc
        return True

    def receive_into(self, buffer: memoryview) -> Optional[int]:
        """How many bytes came (0: the peer's FIN), `None`: nothing yet."""
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise LegLost(self, bare(exc)) from exc

    def send(self, data: Bytes) -> int:
        """How many bytes the kernel took."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise LegLost(self, bare(exc)) from exc

    def send_end(self) -> None:
        """FIN, behind what was sent."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise LegLost(self, bare(exc)) from exc

    @property
    def local_ip(self) -> str:
        """This machine's address of it; "" once the kernel has forgotten that."""
        try:
            return str(self._sock.getsockname()[0])
        except OSError:  # BSD kernels say EINVAL for a socket that has been reset
            return ""

    @property
    def unsent(self) -> int:
        """How many bytes the peer's kernel has not acknowledged: a reset takes them from it."""
        try:
            return sockets.unsent(self._sock)
        except OSError as exc:
            raise LegLost(self, bare(exc)) from exc

    def pulse(self) -> None:
        """Called now and then: a peer that acknowledges nothing for long is lost."""
        self._unanswered = self._unanswered + 1 if sockets.is_unanswered(self._sock) else 0
        if self._unanswered >= UNANSWERED_PULSES:
            raise LegLost(self, OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def give_up(self, reset: bool = False) -> None:
        """Close, in order or with a reset."""
        if reset:
            # BSD kernels say EINVAL for a socket that has been reset already: all the better.
            with contextlib.suppress(OSError):
                sockets.reset_on_close(self._sock)
        self._loop.give_up(self._sock)
        self.watched = 0
        self._participant = None
