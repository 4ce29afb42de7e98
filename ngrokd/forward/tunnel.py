"""One tunnel as a state machine: TLS, the upgrade and the relay, without a socket.

Theory of operation. The driver tells what happened (`connected`, `request`, `receive_local`,
`receive_remote`, `remote_lost`). What `receive_local` and `receive_remote` give back it offers to
the other socket at once, unless something waits for that already, and puts what is left over into
`to_remote` and `to_local`: while both sockets take all they are given, no byte is copied here. What
to wait for is computed from the state each time (`local_interest`, `remote_interest`):

- until READY it belongs to no client; `request` names the target, also long after the handshake;
- before OPEN the local side is not read, so the kernel holds the client back;
- a side is read while the backlog to the *other* side is below HIGH_WATER_BYTES, and written while
  there is backlog to it. One read adds at most READ_BYTES, so a backlog never exceeds their sum.
  What was read goes in STEP_BYTES at a time, so that the first is sent while the next is encrypted.

Each direction ends on its own (`Flow`): an end is passed on behind the bytes before it, and the
other direction goes on. The tunnel is finished when both ends have been passed on.

A tunnel with a rewriter sends what that makes of the client's bytes, and shows it those of the
endpoint, until it is finished.

What `receive_remote` gives stands in a buffer that all tunnels share: the driver must be done with
it before it turns to any tunnel again.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Iterable
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward.backlog import Backlog, OwnBacklog
from ngrokd.forward.bare import bare
from ngrokd.forward.httphost import HostRewriter, Piece
from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.tls import RECORD_BYTES, STEP_BYTES, Tls
from ngrokd.forward.wire import ConnResponse, ResponseReader, encode_request
from ngrokd.model import Target

READ_BYTES = 256 * 1024  # of one side at a time: fewer, larger reads are what throughput is made of
HIGH_WATER_BYTES = 64 * 1024  # a socket buffer's worth: enough to keep the slower side busy
# Reading the ingress makes TLS answer (key updates). Above this, far beyond what the relay itself
# leaves waiting, an ingress that never takes its answers is not read either.
ANSWER_LIMIT_BYTES = 4 * (READ_BYTES + HIGH_WATER_BYTES)
PLAIN_BYTES = STEP_BYTES + RECORD_BYTES  # the shared buffer: all that one step can decrypt to

EMPTY = memoryview(b"")


class TunnelState(enum.Enum):
    """How far a tunnel has come."""

    CONNECTING = "connecting"  # TCP to the ingress
    HANDSHAKING = "handshaking"  # TLS
    READY = "ready"  # for any target: the ingress waits for a request
    UPGRADING = "upgrading"  # the request is under way, its answer awaited
    OPEN = "open"  # bytes flow


class Flow(enum.Enum):
    """How far one direction has come."""

    RUNNING = "running"  # its source may send more
    ENDING = "ending"  # the source has ended; the sink does not know yet
    ENDED = "ended"  # the sink has been told
    CUT = "cut"  # the source broke; the sink gets what came before, then a reset


class UpgradeRefused(ProtocolError):
    """ngrok answered the upgrade with an error. Handler: no other address is tried."""

    def __init__(self, response: ConnResponse) -> None:
        super().__init__(f"{response.error_code} {response.error_message}".strip())
        self.response = response


class UpgradeCut(ProtocolError):
    """The ingress ended its side before it had answered. Handler: `faults` tells it from resets."""

    def __init__(self, begun: bool) -> None:
        super().__init__("the connection ended before the whole answer had come")
        self.begun = begun  # a part of the answer had come


class Tunnel:
    """One way to one target, from TCP connect to the last byte. Owner: forward.

    Methods raise `ssl.SSLError` or `ProtocolError`; before OPEN the tunnel is over then.
    """

    __slots__ = ("_plain", "_reader", "down", "fault", "response", "rewriter", "state", "tls",
                 "to_local", "to_remote", "up")

    def __init__(self, tls: Tls, plain: memoryview) -> None:
        """`plain`: room for PLAIN_BYTES, which tunnels may share."""
        self.tls = tls
        self._plain = plain
        self._reader: Optional[ResponseReader] = None  # None: no answer is awaited
        self.rewriter: Optional[HostRewriter] = None  # None: the client's bytes go as they are
        self.state = TunnelState.CONNECTING
        self.up = Flow.RUNNING  # local to remote
        self.down = Flow.RUNNING
        self.to_local = Backlog()
        self.to_remote = OwnBacklog()
        self.response: Optional[ConnResponse] = None
        self.fault: Optional[Exception] = None  # why `down` is CUT

    # What to wait for

    def local_interest(self) -> int:
        """READ and WRITE bits for the client's socket."""
        if self.state is not TunnelState.OPEN:
            return 0
        wanted = WRITE if self.to_local else 0
        if (
            self.up is Flow.RUNNING
            and len(self.to_remote) < HIGH_WATER_BYTES
            and (self.rewriter is None or self.rewriter.wants_data)
        ):
            wanted |= READ
        return wanted

    def remote_interest(self) -> int:
        """READ and WRITE bits for the ingress's socket."""
        if self.state is TunnelState.CONNECTING:
            return WRITE
        wanted = WRITE if self.to_remote else 0
        if (
            self.down is Flow.RUNNING
            and len(self.to_local) < HIGH_WATER_BYTES
            and len(self.to_remote) < ANSWER_LIMIT_BYTES
        ):
            wanted |= READ
        return wanted

    @property
    def local_end_due(self) -> bool:
        """The client has all the bytes and must now be told that no more come."""
        return self.down is Flow.ENDING and not self.to_local

    @property
    def cut_due(self) -> bool:
        """The client has all the bytes there are and must now be reset."""
        return self.down is Flow.CUT and not self.to_local

    @property
    def is_calm(self) -> bool:
        """OPEN, nothing waits and nothing ends, so that both sides are read and neither written."""
        return (
            not self.to_local.kept
            and not self.to_remote.size
            and self.down is Flow.RUNNING
            and self.up is Flow.RUNNING
            and self.rewriter is None
        )

    @property
    def holds(self) -> bool:
        """Whether bytes of the client wait for something else than the ingress's socket."""
        return self.rewriter is not None and self.rewriter.holds

    @property
    def half_closed(self) -> bool:
        """One side has ended: from now on a lack of progress is not waited out for ever."""
        return self.up is not Flow.RUNNING or self.down is not Flow.RUNNING

    @property
    def finished(self) -> bool:
        """Both ends have been passed on."""
        return self.down is Flow.ENDED and self.up is not Flow.RUNNING and not self.to_remote

    # What happened

    def connected(self) -> None:
        """TCP is there: the handshake begins."""
        self.state = TunnelState.HANDSHAKING
        self._handshake()
        self._collect()

    def request(self, target: Target, rewriter: Optional[HostRewriter] = None) -> None:
        """READY: ask the ingress for `target`. `rewriter`: what the client's bytes go through."""
        self.rewriter = rewriter
        self._reader = ResponseReader()
        self.tls.send(memoryview(encode_request(target)))
        self.state = TunnelState.UPGRADING
        self._collect()

    def receive_local(self, data: memoryview) -> bytes:
        """Bytes of the client (empty: its FIN), at most STEP_BYTES: those to send for them."""
        if self.rewriter is not None:
            self._send_pieces(self.rewriter, self.rewriter.receive_data(data))
        elif len(data):
            self.tls.send(data)
        if not len(data):
            self.up = Flow.ENDING
            self.tls.send_eof()
        return self.tls.data_to_send()

    def receive_remote(self, data: memoryview) -> memoryview:
        """Bytes of the ingress (empty: its FIN), at most STEP_BYTES: those for the client."""
        tls = self.tls
        if self.state is TunnelState.OPEN:
            plain = self._plain[: tls.decrypt(data, self._plain)]
            if self.rewriter is not None and len(plain):
                self._show(plain)
        else:
            plain = self._open_with(data)
        if tls.outgoing.pending:
            self._collect()
        if tls.ended or tls.fault is not None:
            self._end_down()
        return plain

    def remote_lost(self, fault: Exception) -> None:
        """The ingress's socket broke while OPEN: the client still gets what came before."""
        self.down = Flow.CUT
        self.fault = bare(fault)
        self.to_remote.clear()
        self.up = Flow.ENDED

    def local_end_sent(self) -> None:
        """The client has been told that no more comes."""
        self.down = Flow.ENDED

    def say_goodbye(self) -> None:
        """READY: queue TLS's end for an ingress that is about to be left."""
        self.to_remote.put(self.receive_local(EMPTY))

    # How it goes on

    def _handshake(self) -> None:
        if self.tls.handshake():
            self.state = TunnelState.READY

    def _open_with(self, data: memoryview) -> memoryview:
        """On the way to OPEN: the handshake, then the ingress's answer; what came behind it."""
        try:
            self.tls.receive_data(data)
            if self.state is TunnelState.HANDSHAKING:
                self._handshake()
            if self.state is TunnelState.HANDSHAKING:
                return EMPTY
            plain = self._plain[: self.tls.read_into(self._plain)]
        finally:
            self._collect()  # an alert of ours, too
        return self._answered(plain) if len(plain) else EMPTY

    def _answered(self, plain: memoryview) -> memoryview:
        reader = self._reader
        if reader is None:
            raise ProtocolError("the ingress spoke before it was asked")
        self.response = reader.receive_data(plain)
        if self.response is None:
            return EMPTY
        if self.response.refused:
            raise UpgradeRefused(self.response)
        self.state = TunnelState.OPEN
        self._reader = None
        early = memoryview(reader.leftover)
        if len(early):
            self._show(early)
        return early

    def _end_down(self) -> None:
        """The ingress's end or fault, behind what has been decrypted."""
        fault = self.tls.fault
        if self.state is not TunnelState.OPEN:
            if self.tls.ended or isinstance(fault, ssl.SSLEOFError):
                raise UpgradeCut(self._reader is not None and self._reader.begun)
            if fault is not None:
                raise fault
        elif fault is not None:
            self.remote_lost(fault)
        elif self.down is Flow.RUNNING:
            self.down = Flow.ENDING
            self._show(EMPTY)

    def _show(self, plain: memoryview) -> None:
        """The endpoint has sent this (empty: its end)."""
        if self.rewriter is not None:
            self._send_pieces(self.rewriter, self.rewriter.observe(plain))
            self._collect()

    def _send_pieces(self, rewriter: HostRewriter, pieces: Iterable[Piece]) -> None:
        data = memoryview(b"".join(pieces))  # as few TLS records as they fit in
        for start in range(0, len(data), STEP_BYTES):
            self._collect()
            self.tls.send(data[start : start + STEP_BYTES])
        if rewriter.finished:
            self.rewriter = None

    def _collect(self) -> None:
        """What TLS has to say by itself."""
        self.to_remote.put(self.tls.data_to_send())
