"""An ingress connection before its tunnel: handshake and messages, all by a deadline."""

from __future__ import annotations

import select
import socket
import time
from typing import Optional

from ngrokd.errors import NgrokdError
from ngrokd.sandbox.channel import Buffer, TlsChannel
from ngrokd.sandbox.stopping import StopSignal

READ_BYTES = 64 << 10


class LinkEnded(NgrokdError):
    """The connection is over before the tunnel: late, gone, or the sandbox stops."""


class Link:
    """One client connection. Owner: its thread. `deadline` is of `time.monotonic`."""

    def __init__(self, client: socket.socket, channel: TlsChannel, stopping: StopSignal) -> None:
        self.client, self.channel = client, channel
        self._stopping = stopping

    def handshake(self, deadline: float) -> None:
        """`ssl.SSLError` if it fails; the client has been told why then."""
        try:
            while not self.channel.handshake():
                self.flush(deadline)
                self._receive(deadline)
        finally:
            self.flush(deadline)  # the alert, if it failed

    def read(self, deadline: float) -> bytes:
        """Some plaintext; b"" for the peer's end of stream."""
        plain = memoryview(bytearray(READ_BYTES))
        while True:
            count = self.channel.read_into(plain)
            self.flush(deadline)
            if count is not None:
                return bytes(plain[:count])
            self._receive(deadline)

    def send(self, data: Buffer, deadline: float) -> None:
        """All of it, as few TLS records as it fits in."""
        self.channel.send(data)
        self.flush(deadline)

    def flush(self, deadline: float) -> None:
        """All ciphertext out."""
        view = memoryview(self.channel.data_to_send())
        while len(view):
            try:
                view = view[self.client.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)

    def _receive(self, deadline: float) -> None:
        self._wait(select.POLLIN, deadline)
        try:
            self.channel.receive_data(self.client.recv(READ_BYTES))
        except BlockingIOError:
            return

    def _wait(self, events: int, deadline: float) -> None:
        wait_for(self.client, events, deadline, self._stopping)


def wait_for(
    connection: socket.socket, events: int, deadline: Optional[float], stopping: StopSignal
) -> None:
    """Until the socket is ready; `LinkEnded` at the deadline or when the sandbox stops."""
    poller = select.poll()
    poller.register(stopping, select.POLLIN)
    poller.register(connection, events)
    left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
    ready = dict(poller.poll(None if left_s is None else int(left_s * 1000) + 1))
    if stopping.fileno() in ready:
        raise LinkEnded("the sandbox was stopped")
    if not ready:
        raise LinkEnded("the client was too slow")
