"""Carries bytes between a TLS connection and an upstream until both sides have ended.

Theory of operation: both sockets are non-blocking, one `poll` watches both and the stop signal.
Each direction has an outbox; a side is read only while the other's outbox is below HIGH_WATER, so
memory is bounded whoever is slow. An end of stream is passed on once what came before it is sent:
upstream gets a FIN, the client a close_notify, and the other direction goes on. A fault on one side
resets the other, so that nobody takes a truncated stream for a whole one.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import Optional

from ngrokd.sandbox.channel import Buffer, TlsChannel
from ngrokd.sandbox.stopping import StopSignal

CHUNK_BYTES = 256 << 10  # a read: batches of TLS records are what makes this fast
FIRST_CHUNK_BYTES = 16 << 10  # 500 idle tunnels with full-sized buffers would hold 250 MB
RECORD_BYTES = 16 << 10  # the most that one TLS record holds
HIGH_WATER_BYTES = 256 << 10  # not read above this; the outbox may exceed it by one read

LINGER_S = 2.0

READ_EVENTS = select.POLLIN | select.POLLHUP | select.POLLERR
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger 0 s: close() sends RST instead of FIN


class Outbox:
    """Bytes on their way to one socket. Owner: the connection's thread."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._waiting: deque[memoryview] = deque()
        self.size = 0
        self.sent = 0

    def send(self, data: Buffer) -> None:
        """Sends what the socket takes and keeps a copy of the rest."""
        view = memoryview(data)
        if not self._waiting:
            view = view[self._try(view) :]
        if len(view):
            self._waiting.append(memoryview(bytes(view)))
            self.size += len(view)

    def flush(self) -> None:
        """Sends what the socket takes now."""
        while self._waiting:
            first = self._waiting[0]
            count = self._try(first)
            self.size -= count
            if count < len(first):
                self._waiting[0] = first[count:]
                return
            self._waiting.popleft()

    def _try(self, view: memoryview) -> int:
        try:
            count = self._peer.send(view)
        except BlockingIOError:
            return 0
        self.sent += count
        return count


@dataclass
class Direction:
    """How far one direction has come. Owner: the connection's thread."""

    ended: bool = False  # the source has sent its end of stream
    closed: bool = False  # and the destination has been told
    broken: bool = False  # the destination takes no more: what comes is dropped

    @property
    def done(self) -> bool:
        """Nothing more will happen."""
        return self.closed or self.broken


class Relay:
    """One tunnel. Owner: the connection's thread. The channel is past its handshake."""

    def __init__(
        self,
        client: socket.socket,
        channel: TlsChannel,
        upstream: socket.socket,
        stopping: StopSignal,
    ) -> None:
        self._client, self._channel, self._upstream = client, channel, upstream
        self._stopping = stopping
        self._up, self._down = Direction(), Direction()
        self._to_upstream, self._to_client = Outbox(upstream), Outbox(client)
        self._chunk = memoryview(bytearray(FIRST_CHUNK_BYTES))  # grows with what comes
        self._plain = memoryview(bytearray(FIRST_CHUNK_BYTES + RECORD_BYTES))
        self._watched: dict[int, Optional[int]] = {}
        self.bytes_up = 0
        self.bytes_down = 0

    def run(self, early: bytes) -> str:
        """Until both directions are done: ""; else why it was cut. `early`: plaintext that came
        behind the request."""
        try:
            if early:
                self._forward_up(memoryview(early))
            self._read_plaintext()  # may lie in the channel already: no event announces it
            self._settle()
            reason = self._loop()
            if self._up.broken:
                linger(self._client, self._stopping)
            return reason
        except (OSError, ssl.SSLError) as exc:
            reset_on_close(self._client)
            reset_on_close(self._upstream)
            return str(exc)

    def _loop(self) -> str:
        poller = select.poll()
        poller.register(self._stopping, select.POLLIN)
        while not (self._up.done and self._down.done):
            self._watch(poller)
            for descriptor, events in poller.poll():
                if descriptor == self._client.fileno():
                    self._on_client(events)
                elif descriptor == self._upstream.fileno():
                    self._on_upstream(events)
                else:
                    return "the sandbox was stopped"
            self._settle()
        return ""

    def _watch(self, poller: select.poll) -> None:
        """Interest follows from what is where.

        The client stays watched even for nothing, which still tells that it is gone. The upstream
        does not: ended on both sides, it would report that at every turn.
        """
        to_client = _interest(
            not self._up.ended and self._to_upstream.size < HIGH_WATER_BYTES, self._to_client.size
        )
        to_upstream = _interest(
            not self._down.ended and self._to_client.size < HIGH_WATER_BYTES,
            0 if self._up.broken else self._to_upstream.size,
        )
        self._set_interest(poller, self._client.fileno(), to_client)
        self._set_interest(poller, self._upstream.fileno(), to_upstream or None)

    def _set_interest(self, poller: select.poll, descriptor: int, wanted: Optional[int]) -> None:
        if wanted == self._watched.get(descriptor):
            return
        if wanted is None:
            poller.unregister(descriptor)
        else:
            poller.register(descriptor, wanted)
        self._watched[descriptor] = wanted

    def _on_client(self, events: int) -> None:
        if events & select.POLLOUT:
            self._to_client.flush()
        if not events & READ_EVENTS:
            return
        if not (self._watched[self._client.fileno()] or 0) & select.POLLIN:
            raise ConnectionResetError("the client is gone")
        try:
            count = self._client.recv_into(self._chunk)
        except BlockingIOError:
            return
        self._channel.receive_data(self._chunk[:count])
        self._read_plaintext()
        self._grow(count)

    def _read_plaintext(self) -> None:
        """All of it: what is left in the channel would be lost by `close_write`."""
        filled = 0
        while True:
            count = self._channel.read_into(self._plain[filled:])
            if count:
                filled += count
            if filled and (not count or len(self._plain) - filled < RECORD_BYTES):
                self._forward_up(self._plain[:filled])
                filled = 0
            if count is None:
                break
            if count == 0:
                self._up.ended = True
                break
        self._send_ciphertext()  # answers of TLS itself, as to a key update

    def _forward_up(self, data: memoryview) -> None:
        self.bytes_up += len(data)
        if self._up.broken:
            return
        try:
            self._to_upstream.send(data)
        except (BrokenPipeError, ConnectionResetError):
            self._up.broken = True  # it may still have an answer for us to read

    def _on_upstream(self, events: int) -> None:
        if events & select.POLLOUT:
            try:
                self._to_upstream.flush()
            except (BrokenPipeError, ConnectionResetError):
                self._up.broken = True
        if not events & READ_EVENTS or self._down.ended:
            return
        try:
            count = self._upstream.recv_into(self._chunk)
        except BlockingIOError:
            return
        if count:
            self.bytes_down += count
            self._channel.send(self._chunk[:count])
            self._send_ciphertext()
            self._grow(count)
        else:
            self._down.ended = True

    def _grow(self, count: int) -> None:
        """A read that filled the buffer wants a larger one."""
        if count == len(self._chunk) < CHUNK_BYTES:
            self._chunk = memoryview(bytearray(len(self._chunk) * 4))
            self._plain = memoryview(bytearray(len(self._chunk) + RECORD_BYTES))

    def _send_ciphertext(self) -> None:
        data = self._channel.data_to_send()
        if data:
            self._to_client.send(data)

    def _settle(self) -> None:
        """Passes ends of stream on, each behind the last byte before it."""
        if self._down.ended and not self._down.closed:
            self._channel.close_write()
            self._send_ciphertext()
            if not self._to_client.size:
                self._down.closed = True
        if self._up.ended and not self._up.done and not self._to_upstream.size:
            self._up.closed = True
            try:
                self._upstream.shutdown(socket.SHUT_WR)
            except OSError:
                self._up.broken = True  # it has reset the connection; reading will tell


def linger(client: socket.socket, stopping: StopSignal, at_most_s: float = LINGER_S) -> None:
    """Waits until the client has ended too: closing on bytes it still sends would reset the
    connection, and what we sent last would be lost with it."""
    client.setblocking(False)
    deadline = time.monotonic() + at_most_s
    poller = select.poll()
    poller.register(stopping, select.POLLIN)
    poller.register(client, select.POLLIN)
    try:
        client.shutdown(socket.SHUT_WR)
        while time.monotonic() < deadline:
            ready = dict(poller.poll(int(at_most_s * 1000)))
            if stopping.fileno() in ready or (ready and not client.recv(CHUNK_BYTES)):
                return
    except OSError:
        return  # it is gone, which is what was waited for


def _interest(reading: bool, backlog: int) -> int:
    return (select.POLLIN if reading else 0) | (select.POLLOUT if backlog else 0)


def reset_on_close(connection: socket.socket) -> None:
    """The peer will see a reset: what it has is not the whole."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    except OSError:
        return  # it is closed already, or its peer has reset it: nothing is left to say
