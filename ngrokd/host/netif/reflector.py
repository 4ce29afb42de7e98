"""Turns packets to our own addresses around, which macOS sends into the utun that has them.

Theory of operation. macOS has no route from an address of a point-to-point interface back to
itself: a packet to one goes out through the interface, to whoever holds its socket. Written back
as it is, it comes in by that interface, and the kernel delivers it. What goes to an address of the
subnet that no endpoint has is read and forgotten: unread, it would stay in the kernel's memory.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Collection, Iterable
from typing import Optional

logger = logging.getLogger(__name__)

THREAD = "utun"

# Each packet has its address family before it, in network order.
_IPV4 = b"\0\0\0\x02"
_HEAD_BYTES = len(_IPV4)
_DESTINATION = slice(_HEAD_BYTES + 16, _HEAD_BYTES + 20)
_PACKET_BYTES = 65536 + _HEAD_BYTES
_STOP_S = 5.0  # it turns at once
_READS_A_TURN = 64
_REST_S = 0.001  # after a turn that served nobody: a flood of such would take a whole processor


def is_ours(packet: bytes, ours: Collection[bytes]) -> bool:
    """Whether it is to be written back: IPv4, whole as far as the destination, and that is ours."""
    return (
        packet[:_HEAD_BYTES] == _IPV4
        and len(packet) >= _HEAD_BYTES + 20
        and packet[_HEAD_BYTES] >> 4 == 4
        and packet[_DESTINATION] in ours
    )


class Reflector:
    """Owner: main, but for what is said to be of thread `utun`."""

    def __init__(self, sock: socket.socket) -> None:
        """`sock`: of the utun; it is closed by `stop`. Raises OSError: then it is as it was."""
        with contextlib.ExitStack() as made:
            self._end, self._told = map(made.enter_context, socket.socketpair())
            self._selector = made.enter_context(selectors.DefaultSelector())
            self._selector.register(sock, selectors.EVENT_READ)
            self._selector.register(self._told, selectors.EVENT_READ)
            self._made = made.pop_all()
        sock.setblocking(False)
        self._told.settimeout(_REST_S)
        self._sock = sock
        self._ours: frozenset[bytes] = frozenset()  # replaced as a whole
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Once."""
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()

    def serve(self, ips: Iterable[str]) -> None:
        """Packets to these are turned around from now on, and no others."""
        self._ours = frozenset(map(socket.inet_aton, ips))

    @property
    def lives(self) -> bool:
        """Started, and neither stopped nor ended because the interface went."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Twice is harmless."""
        if self._thread is not None:
            self._end.close()
            self._thread.join(_STOP_S)
            self._thread = None
        self._made.close()
        self._sock.close()

    def _run(self) -> None:
        """Thread `utun`."""
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if self._told in ready or not self._turn():
                return

    def _turn(self) -> bool:
        """Thread `utun`. False: the interface is gone, and main will see that it is."""
        served = 0
        for _ in range(_READS_A_TURN):
            try:
                packet = self._sock.recv(_PACKET_BYTES)
            except BlockingIOError:
                break
            except OSError as exc:
                logger.debug("the utun is read no more: %s", exc)
                return False
            if not packet:
                return False
            if is_ours(packet, self._ours):
                served += 1
                with contextlib.suppress(OSError):  # no room in the kernel: lost, as packets are
                    self._sock.send(packet)
        return served > 0 or self._rest()

    def _rest(self) -> bool:
        """Thread `utun`. A flood of what nobody is served by takes no processor. False: the end."""
        with contextlib.suppress(socket.timeout):
            self._told.recv(1)
            return False
        return True
