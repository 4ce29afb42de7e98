"""TLS towards the ingress without a socket: ciphertext in and out, plaintext out and in.

Theory of operation: `receive_data` stores ciphertext, `read_into` decrypts *everything* that is
stored (until OpenSSL wants more) into the caller's buffer, `send` encrypts into a memory BIO that
`data_to_send` empties. Nothing here waits, and nothing is ever half read, which is what makes the
half-close safe:

- `SSLObject.unwrap()` calls SSL_shutdown twice; the second call looks for the peer's close_notify
  and throws away application data it finds in its place. So it may only be called when reading has
  come to SSLWantReadError. Here that is always so.
- After our close_notify OpenSSL goes on reading. The peer's close_notify is a read of 0 bytes
  before ours was sent and SSLZeroReturnError after it; both are an orderly end.
- The end of the stream without close_notify is SSLEOFError: a truncation, never an end.
- In TLS 1.3 the server looks at our certificate after our handshake is done. Its refusal is an
  alert that appears at the first read.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward.bare import bare

# The memory BIOs never shrink, so what goes into one at a time is what an idle connection keeps.
STEP_BYTES = 64 * 1024
RECORD_BYTES = 16 * 1024 + 512  # the largest TLS record with its header and padding


class Tls:
    """One client session. Owner: the tunnel it belongs to.

    Every method may raise `ssl.SSLError`; the session is over then, but `data_to_send` may still
    hold the alert that tells the peer.
    """

    __slots__ = ("_fin", "_incoming", "_object", "ended", "fault", "outgoing")

    def __init__(
        self, context: ssl.SSLContext, server_name: str, session: Optional[ssl.SSLSession] = None
    ) -> None:
        """`session`: of an earlier connection with the same context, to be resumed if it can be."""
        self._incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()  # for the peer
        self._object = context.wrap_bio(
            self._incoming, self.outgoing, server_hostname=server_name, session=session
        )
        self._fin = False  # the peer's TCP end has been received
        self.ended = False  # the peer's close_notify has been read
        self.fault: Optional[ssl.SSLError] = None  # ended reading, after what was read before it

    def handshake(self) -> bool:
        """Go on with the handshake; whether it is done."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def receive_data(self, data: memoryview) -> None:
        """Take ciphertext, at most `STEP_BYTES` at a time (empty: the peer's FIN)."""
        if len(data):
            self._incoming.write(data)
        else:
            self._fin = True
            self._incoming.write_eof()

    def decrypt(self, data: memoryview, buffer: memoryview) -> int:
        """`receive_data`, then `read_into`."""
        if len(data):
            self._incoming.write(data)
        else:
            self.receive_data(data)
        return self.read_into(buffer)

    def read_into(self, buffer: memoryview) -> int:
        """Decrypt all that has come; how many bytes of `buffer` it took.

        `buffer` must have room for all of it: what was received since the last call and one record.
        `ended` or `fault` say why no more will come.
        """
        count = 0
        # With a buffer it gives a count; typeshed knows only the form that gives bytes.
        read: Callable[[int, memoryview], int] = self._object.read  # type: ignore[assignment]
        incoming = self._incoming
        try:
            # An empty BIO is SSLWantReadError without the cost of raising it: OpenSSL takes no
            # more out of it than the record that it is reading.
            while incoming.pending or self._fin:
                room = buffer[count:] if count else buffer
                got = read(len(room), room)
                if not got:
                    self._end()
                    return count
                count += got
        except ssl.SSLWantReadError:
            return count
        except ssl.SSLZeroReturnError:
            self._end()
        except ssl.SSLError as exc:
            self.fault = bare(exc)
        return count

    @property
    def session(self) -> Optional[ssl.SSLSession]:
        """To be resumed by a later connection. OpenSSL copies it each time: do not ask often."""
        return self._object.session

    @property
    def peer_not_after(self) -> float:
        """When the certificate that the peer has shown ends, Unix seconds; 0: it showed none."""
        certificate = self._object.getpeercert() or {}
        text = certificate.get("notAfter")
        return float(ssl.cert_time_to_seconds(text)) if isinstance(text, str) else 0.0

    @property
    def resumed(self) -> bool:
        """The handshake resumed the session it was given."""
        return bool(self._object.session_reused)

    def _end(self) -> None:
        """The stream is over: by close_notify, unless it took the FIN to show.

        Some Pythons set OP_IGNORE_UNEXPECTED_EOF (3.9 with OpenSSL 3), which makes a truncation
        look like an end. But all that came before the FIN was read before the FIN came.
        """
        if self._fin and not self.ended:
            self.fault = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")
        else:
            self.ended = True

    def send(self, data: memoryview) -> None:
        """Encrypt `data`, at most `STEP_BYTES` at a time."""
        try:
            count = self._object.write(data)
            while count < len(data):
                data = data[count:]
                count = self._object.write(data)
        except ssl.SSLWantReadError as exc:
            # Only a renegotiation (TLS 1.2) makes a write wait for a read, and ngrok has none.
            raise ProtocolError("the ingress asked for a TLS renegotiation") from exc

    def send_eof(self) -> None:
        """Queue close_notify behind what was sent. Reading goes on."""
        try:
            self._object.unwrap()
        except ssl.SSLWantReadError:
            return  # the peer has not ended yet, as it may
        except ssl.SSLZeroReturnError:
            self.ended = True

    def data_to_send(self) -> bytes:
        """The ciphertext for the peer, once."""
        return self.outgoing.read()
