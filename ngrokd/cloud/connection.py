"""Connections that stand, and HTTP answers that are whole, by a deadline."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any, Optional

CONNECT_TIMEOUT_S = 10.0  # TCP, the proxy's answer and TLS; a name's look-up has its own bounds
_LEAST_S = 0.001  # a time-out of 0 would make a socket one that never waits


class _DeadlineReader(io.RawIOBase):
    """A socket's bytes until a deadline. Owner: the thread of the request.

    A socket's own timeout starts again with every byte, so a server that drips could hold a pool
    thread for ever.
    """

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self._connection.settimeout(left)
        got = self._raw.readinto(buffer)
        # What follows on the same socket (TLS, after a proxy's answer) has no more than the rest.
        self._connection.settimeout(_left(self._deadline))
        return got

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that has to be whole by a deadline. Owner: the thread of the request."""

    def __init__(self, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        left = sock.gettimeout()
        if left is not None:
            reader = _DeadlineReader(self.fp.detach(), sock, time.monotonic() + left)
            self.fp = io.BufferedReader(reader)


class BoundedConnection(http.client.HTTPConnection):
    """A connection that stands, and an answer that is whole, each by a deadline of its own.

    Owner: the thread of the request. http.client's one timeout would start again for each address
    of the name, for the proxy, for TLS and for the answer.
    """

    response_class = _Response
    _whole_by = 0.0

    def __init__(self, host: str, *, timeout: float = 30, **more: Any) -> None:
        super().__init__(host, timeout=timeout, **more)
        self._answer_s = timeout
        self._connect_s = min(CONNECT_TIMEOUT_S, timeout)
        self._create_connection = self._reach  # http.client's place for another way to connect

    def connect(self) -> None:
        try:
            super().connect()
        except socket.timeout as exc:
            raise OSError(f"no connection came about within {self._connect_s:g} s") from exc
        self.begin_answer()

    def begin_answer(self) -> None:
        """The time that sending and the whole answer may take begins."""
        self._whole_by = time.monotonic() + self._answer_s
        self.sock.settimeout(self._answer_s)

    def getresponse(self) -> http.client.HTTPResponse:
        self.sock.settimeout(_left(self._whole_by))
        return super().getresponse()

    def _reach(self, address: tuple[str, int], *_: object) -> socket.socket:
        """One of the name's addresses. Each gets a fair part of the time: one that swallows
        packets, as IPv6 does on some machines, leaves enough for the others."""
        found = socket.getaddrinfo(*address, 0, socket.SOCK_STREAM)
        deadline = time.monotonic() + self._connect_s
        fault = OSError("its name has no address")
        for at, (family, kind, protocol, _name, place) in enumerate(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as exc:  # no IPv6 here, or no descriptor is left
                fault = exc
                continue
            try:
                sock.settimeout(_left(deadline) / (len(found) - at))
                sock.connect(place)
            except OSError as exc:
                sock.close()
                fault = exc
                continue
            sock.settimeout(_left(deadline))
            return sock
        raise fault


class BoundedTlsConnection(BoundedConnection, http.client.HTTPSConnection):
    """The same by TLS."""


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), _LEAST_S)
