"""Which certificate a server presents in a TLS handshake that refuses it.

Theory of operation. After a certificate was refused, `getpeercert` knows nothing of it. From Python
3.13 on `get_unverified_chain` tells. Before, OpenSSL's own observer of messages does, which Python
has a hook for since 3.8 (without documentation, and in versions that no longer change): it shows
the server's Certificate message in the clear, for TLS 1.3 too. Nothing about verification differs
in either way; a handshake without it, just to look, would be one more thing to be careful with.
"""

from __future__ import annotations

import ssl
from typing import Any, Optional

_CERTIFICATE = 11  # HandshakeType certificate: RFC 8446 4, RFC 5246 7.4
_LENGTH_BYTES = 3
_HEAD_BYTES = 1 + _LENGTH_BYTES  # type and length of a handshake message


class Observer:
    """Watches the connections of one context. Owner: the thread that makes them."""

    def __init__(self, context: ssl.SSLContext) -> None:
        """`context` must be of nobody else."""
        self._message = b""
        if not hasattr(ssl.SSLObject, "get_unverified_chain"):
            context._msg_callback = self._take  # type: ignore[attr-defined]

    def certificate(self, tls: ssl.SSLObject) -> Optional[bytes]:
        """The DER of the server's own certificate; None: it has shown none, or nothing tells."""
        if hasattr(tls, "get_unverified_chain"):
            chain = tls.get_unverified_chain()
            return bytes(chain[0]) if chain else None
        return first_certificate(self._message)

    def _take(
        self, _: object, direction: str, _version: object, _kind: object, number: Any, data: bytes
    ) -> None:
        # The hook names a message by its number alone, so what is none of the handshake may pass,
        # too; `first_certificate` makes nothing of it.
        if direction == "read" and number == _CERTIFICATE:
            self._message = bytes(data)


def first_certificate(message: bytes) -> Optional[bytes]:
    """The first one of a Certificate message of TLS 1.2 or 1.3; None: it is none."""
    if message[:1] != bytes([_CERTIFICATE]):
        return None
    body = message[_HEAD_BYTES:]
    whole = _length(message[1:])
    if whole != len(body):
        return None
    if _length(body) + _LENGTH_BYTES != whole:  # TLS 1.3 has a context before the list
        body = body[1 + body[0] :] if body else b""
        if _length(body) + _LENGTH_BYTES != len(body):
            return None
    first = body[_LENGTH_BYTES:]
    start, end = _LENGTH_BYTES, _LENGTH_BYTES + _length(first)
    return first[start:end] if start < end <= len(first) else None


def _length(content: bytes) -> int:
    return int.from_bytes(content[:_LENGTH_BYTES], "big")
