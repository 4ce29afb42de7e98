"""Reaching the ingress: its addresses in turn, TCP and TLS, until one has shaken hands."""

from __future__ import annotations

import errno
import os
import ssl
from typing import Optional, Protocol

from ngrokd.errors import ProtocolError
from ngrokd.forward import sockets
from ngrokd.forward.attempts import Attempt, Attempts
from ngrokd.forward.bare import bare
from ngrokd.forward.faults import DISTRUST, UNREACHED, reason
from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.leg import Leg, LegLost
from ngrokd.forward.loop import Timer
from ngrokd.forward.switchboard import Switchboard
from ngrokd.forward.tls import Tls
from ngrokd.forward.tunnel import Tunnel, TunnelState
from ngrokd.forward.uplink import Uplink, flush, last_words, leave, receive
from ngrokd.model import Address, Failure, Ingress

# connect(2) of a non-blocking socket that is under way, or done at once
CONNECT_UNDER_WAY = frozenset({0, errno.EINPROGRESS, errno.EINTR})
# Whoever gives up waiting after so long may have met an ingress that is away.
LONG_S = 2.0


class Dialer(Protocol):
    """Who wants an uplink. Owner: forward."""

    def dialed(self, uplink: Uplink) -> None:
        """Here it is."""

    def unreachable(self, failure: Failure) -> None:
        """No address is left, or no time."""

    def on_fault(self, fault: Exception) -> None:
        """A bug of ours."""


class Dial:
    """Owner: forward. Tells its dialer once, and once more after each `go_on`."""

    def __init__(
        self, board: Switchboard, ingress: Ingress, deadline: float, dialer: Dialer
    ) -> None:
        self._board = board
        self._ingress = ingress
        self._attempts = Attempts(board.in_order(ingress), deadline)
        self._since = board.loop.now
        self._dialer: Optional[Dialer] = dialer  # None: nobody waits any more
        self._timer: Optional[Timer] = None
        self._leg: Optional[Leg] = None
        self._tunnel: Optional[Tunnel] = None  # None: TCP is not there yet

    def begin(self) -> None:
        """Try the next address."""
        while True:
            attempt = self._attempts.next(self._board.loop.now)
            if attempt is None:
                self._board.unreached += self._attempts.cause() in UNREACHED
                if self._dialer is not None:
                    self._dialer.unreachable(self._unreachable())
                return
            try:
                self._connect(attempt)
                return
            except OSError as fault:
                why = reason(fault, TunnelState.CONNECTING, self._ingress.server_name)
                self._attempts.failed(attempt.address, why)

    def go_on(self, address: Address, fault: Exception, state: TunnelState) -> None:
        """An uplink to `address` came to nothing in `state`."""
        why = reason(bare(fault), state, self._ingress.server_name)
        self._board.distrusted += why.cause in DISTRUST
        self._attempts.failed(address, why)
        self.begin()

    @property
    def stage(self) -> TunnelState:
        """How far the attempt has come."""
        return self._tunnel.state if self._tunnel is not None else TunnelState.CONNECTING

    def abandon(self) -> None:
        """Tell nobody any more. Called at every end: its dialer may hold it, as it does that."""
        self._dialer = None
        self._disarm()
        leg, self._leg = self._leg, None
        if leg is not None:
            self._board.unreached += self._board.loop.now - self._since >= LONG_S
            leg.give_up()

    # What the loop calls

    def on_ready(self, fd: int, events: int) -> None:
        """The socket is ready."""
        leg = self._leg
        if leg is None or not self._board.loop.may_do_heavy():
            return
        try:
            tunnel = self._advance(leg, events)
        except LegLost as lost:
            self._attempt_failed(self._why_lost(lost))
        except (ssl.SSLError, ProtocolError) as fault:
            self._attempt_failed(fault)
        else:
            if tunnel.state is TunnelState.READY:
                self._hand_over(leg, tunnel)

    def on_timer(self) -> None:
        """The attempt's time is up."""
        self._attempt_failed(TimeoutError())

    def on_fault(self, fault: Exception) -> None:
        """A bug of ours."""
        dialer = self._dialer
        self.abandon()
        if dialer is not None:
            dialer.on_fault(fault)

    # One attempt

    def _connect(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._tunnel = None
        sock = sockets.open_towards(attempt.address.ip)
        error = sock.connect_ex((attempt.address.ip, attempt.address.port))
        if error not in CONNECT_UNDER_WAY:
            sock.close()
            raise OSError(error, os.strerror(error))
        self._leg = Leg(sock, self._board.loop, self)
        self._leg.want(WRITE)
        self._timer = self._board.loop.call_at(attempt.deadline, self)

    def _advance(self, leg: Leg, events: int) -> Tunnel:
        tunnel = self._tunnel
        if tunnel is None:
            leg.check()  # SO_ERROR is how connect(2) ended
            tunnel = self._tunnel = self._new_tunnel()
            tunnel.connected()
        else:
            if events & WRITE:
                flush(tunnel, leg)
            if events & READ:
                receive(tunnel, leg, self._board.raw)
        if tunnel.state is not TunnelState.READY:
            flush(tunnel, leg)
            leg.want(tunnel.remote_interest())
        return tunnel

    def _new_tunnel(self) -> Tunnel:
        board, ingress = self._board, self._ingress
        loop = board.loop
        session = board.sessions.get(ingress, self._attempt.address, loop.now, loop.date)
        return Tunnel(Tls(ingress.context, ingress.server_name, session), board.plain)

    def _why_lost(self, lost: LegLost) -> Exception:
        if self._tunnel is None:
            return lost.fault
        return last_words(lost, self._tunnel, self._board.raw)

    def _attempt_failed(self, fault: Exception) -> None:
        leg, self._leg = self._leg, None
        self._disarm()
        if leg is not None:
            leave(self._tunnel, leg)
        self.go_on(self._attempt.address, fault, self.stage)

    def _hand_over(self, leg: Leg, tunnel: Tunnel) -> None:
        self._leg = None
        self._disarm()
        self._board.verified += 1
        attempt = self._attempt
        now = self._board.loop.now
        if self._dialer is not None:
            address, deadline = attempt.address, attempt.deadline
            self._dialer.dialed(Uplink(tunnel, leg, self._ingress, address, now, deadline))

    def _unreachable(self) -> Failure:
        name, attempts = self._ingress.server_name, self._attempts
        text = f"cannot reach the ingress {name}: {attempts.summary()}"
        return Failure(attempts.cause(), text)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
