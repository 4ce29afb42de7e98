"""One connection for request after request, for as long as the server keeps it.

Theory of operation. A server may close a connection that waits at any time, and its farewell may
cross with our next request. So whatever came unasked is looked for before it is used again; where
it breaks all the same, before an answer has begun, the request may go once more over a new one,
if it is one that does no harm twice (RFC 9112 section 9.3.1).
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
from typing import Any, Optional

from ngrokd.cloud.connection import BoundedConnection, BoundedTlsConnection

# What is met by a request whose server had closed the connection. http.client makes one of them
# (RemoteDisconnected) of an end in the place of an answer.
_CLOSED = (ConnectionError, ssl.SSLEOFError)


class Stale(Exception):
    """The server had closed the connection. Handler: ask again, which makes a new one."""


class KeptConnection(BoundedConnection):
    """Owner: the thread of the requests. Closed, it is made anew by the next request."""

    # urllib closes the socket that it finds behind each answer; by then it is here.
    _aside: Optional[socket.socket] = None
    _is_used = False  # it has brought an answer already

    def request(self, *what: Any, **more: Any) -> None:
        self.sock, self._aside = self._aside, None
        if self.sock is not None and _has_news(self.sock):
            self.close()
        self._is_used = self.sock is not None
        if self._is_used:
            self.begin_answer()
        try:
            super().request(*what, **more)
        except _CLOSED as exc:
            raise self._judged(exc) from exc

    def putheader(self, header: Any, *values: Any) -> None:
        """All but urllib's `Connection: close`."""
        if header != "Connection":
            super().putheader(header, *values)

    def getresponse(self) -> http.client.HTTPResponse:
        try:
            response = super().getresponse()
        except _CLOSED as exc:
            raise self._judged(exc) from exc
        self._aside, self.sock = self.sock, None
        return response

    def close(self) -> None:
        self.sock, self._aside = self.sock or self._aside, None
        super().close()

    def _judged(self, exc: Exception) -> Exception:
        return Stale() if self._is_used else exc


class KeptTlsConnection(KeptConnection, BoundedTlsConnection):
    """The same by TLS."""


class Keeper:
    """Where urllib gets its connections: the same one again for the same place.

    Owner: the thread of the requests.
    """

    def __init__(self) -> None:
        self._kept: Optional[KeptConnection] = None
        self._place: tuple[object, ...] = ()

    def connection(self, kind: type[KeptConnection], host: str, **more: Any) -> KeptConnection:
        """To `host`, a proxy's where there is one."""
        if self._kept is None or self._place != (kind, host):
            self.close()
            self._kept, self._place = kind(host, **more), (kind, host)
        return self._kept

    def close(self) -> None:
        """The next request goes over a new one."""
        if self._kept is not None:
            self._kept.close()


def _has_news(sock: socket.socket) -> bool:
    """Its end, or something that nobody asked for: an answer would begin with that."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    polling = select.poll()  # no select(2): with thousands of listeners numbers go beyond 1,024
    polling.register(sock, select.POLLIN)
    return bool(polling.poll(0))
