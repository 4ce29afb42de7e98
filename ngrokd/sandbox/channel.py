"""The ingress's side of a TLS connection, without I/O.

Theory of operation: ciphertext goes in by `receive_data` and out by `data_to_send`; plaintext comes
out by `read_into` and goes in by `send`. Half-close is `close_write` (our close_notify) and a
`read_into` that gives 0 (the peer's). `ssl.SSLSocket.unwrap` would lose what the peer has already
sent; over MemoryBIO nothing is lost, provided all input is read before `close_write`.
"""

from __future__ import annotations

import ssl
from typing import Any, Optional, Union

Buffer = Union[bytes, bytearray, memoryview]


class TlsChannel:
    """One connection. Owner: its thread. After an `ssl.SSLError` it is finished."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._write_closed = False

    def receive_data(self, data: Buffer) -> None:
        """Ciphertext from the peer; empty: its TCP connection has ended."""
        if len(data):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def data_to_send(self) -> bytes:
        """Ciphertext for the peer."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Whether it is complete; False: it needs the peer's next bytes."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def certificate(self) -> dict[str, Any]:
        """The peer's, as `ssl.SSLSocket.getpeercert` gives it."""
        return self._tls.getpeercert() or {}

    def version(self) -> str:
        """As "TLSv1.3"."""
        return self._tls.version() or ""

    def resumed(self) -> bool:
        """The handshake continued an earlier session."""
        return bool(self._tls.session_reused)

    def read_into(self, view: memoryview) -> Optional[int]:
        """How many bytes of plaintext were read; 0: the peer's close_notify; None: no more yet."""
        try:
            count: object = self._tls.read(len(view), view)  # with a buffer it is a number
            return count if isinstance(count, int) else 0
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            return 0

    def send(self, data: Buffer) -> None:
        """Plaintext for the peer."""
        view = memoryview(data)
        while len(view):
            view = view[self._tls.write(view) :]

    def close_write(self) -> None:
        """Our close_notify; the peer may go on sending. Only once, with all input read."""
        if self._write_closed:
            return
        self._write_closed = True
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            return  # the peer's close_notify has not come yet
