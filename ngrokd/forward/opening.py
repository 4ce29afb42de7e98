"""From accept to OPEN: an ingress connection, warm or new, and the upgrade to the target.

No byte of the client is read here, so every attempt can be repeated with another connection.
"""

from __future__ import annotations

import socket
import ssl
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward.bare import bare
from ngrokd.forward.connection import Connection
from ngrokd.forward.dial import Dial
from ngrokd.forward.faults import printable, reason
from ngrokd.forward.httphost import HostRewriter
from ngrokd.forward.interest import READ
from ngrokd.forward.leg import Leg, LegLost
from ngrokd.forward.loop import Timer
from ngrokd.forward.pool import Pool
from ngrokd.forward.relay import Relay
from ngrokd.forward.tunnel import TunnelState, UpgradeRefused
from ngrokd.forward.uplink import Uplink, last_words
from ngrokd.model import Cause, Failure, Ingress

# Most clients are served before then. Only one who has to wait longer is watched for giving up:
# till then its first bytes, which stay where they are, would be an event for nothing.
PATIENCE_S = 0.1
# A warm connection whose request is not even acknowledged by then leads nowhere: a NAT has
# forgotten it, or its peer is gone. It is well above any round trip.
ACKNOWLEDGED_S = 1.0


class Opening:
    """Owner: forward. Ends as a `Relay` or with a reset of the client."""

    def __init__(
        self, client: socket.socket, connection: Connection, ingress: Ingress, pool: Pool
    ) -> None:
        self._connection = connection
        self._board = connection.board
        self._loop = connection.board.loop
        self._ingress = ingress
        self._pool = pool
        self._deadline = connection.began + connection.settings.connect_timeout
        self._dial: Optional[Dial] = None  # None: no connection of its own has been tried
        self._local = Leg(client, self._loop, self)
        self._uplink: Optional[Uplink] = None
        self._dead_age: Optional[float] = None  # of the warm one that came to nothing, if one did
        self._answer_by = self._deadline  # of the uplink
        self._patient = True  # the client is not watched yet
        self._timer: Optional[Timer] = None  # for the end of patience, then for the answer
        connection.phase = self

    def begin(self) -> None:
        """Take a warm connection, or make one."""
        self._timer = self._loop.call_at(self._loop.now + PATIENCE_S, self)
        uplink = self._pool.take()
        if uplink is None:
            self._dial_anew()
        else:
            self._ask(uplink, min(self._loop.now + ACKNOWLEDGED_S, self._deadline))

    # What the dial calls

    def dialed(self, uplink: Uplink) -> None:
        """A new connection has shaken hands."""
        self._ask(uplink, uplink.deadline)

    def unreachable(self, failure: Failure) -> None:
        """There is no other address, or no time left."""
        self._fail(failure)

    # What the loop calls

    def on_ready(self, fd: int, events: int) -> None:
        """One of the sockets is ready."""
        if fd == self._local.fd:
            self._on_local()
        elif self._uplink is not None:
            self._step(self._uplink, events)

    def on_timer(self) -> None:
        """The client has to wait, or the answer is late."""
        self._timer = None
        if self._patient:
            self._patient = False
            self._local.want(READ)  # not to read: the client may give up while the tunnel is made
        uplink = self._uplink
        if uplink is None:
            return  # the dial has a timer of its own
        if self._loop.now >= self._answer_by:
            self._late(uplink)
        else:
            self._timer = self._loop.call_at(self._answer_by, self)

    def on_fault(self, fault: Exception) -> None:
        """A bug of ours: it costs this connection and no other."""
        self._connection.failed_by_bug(fault)
        self._end("internal error")

    def abandon(self) -> None:
        """The forwarder stops."""
        self._end("stopped")

    # The client

    def _on_local(self) -> None:
        """The client gave up, or its first bytes or its FIN are there.

        Those stay in the kernel until OPEN, and would be reported at every turn until then. A FIN
        is no giving up: whoever has nothing to send may still wait for the answer.
        """
        try:
            if self._local.has_spoken():
                self._local.want(0)
        except LegLost:
            text = f"the client left while the tunnel was {self._stage.value}"
            self._connection.failed_quietly(Failure(Cause.CLIENT_LEFT, text))
            self._end(text)

    @property
    def _stage(self) -> TunnelState:
        if self._uplink is not None:
            return self._uplink.tunnel.state
        return self._dial.stage if self._dial is not None else TunnelState.CONNECTING

    # The upgrade

    def _dial_anew(self) -> None:
        self._dial = Dial(self._board, self._ingress, self._deadline, self)
        self._dial.begin()

    def _ask(self, uplink: Uplink, answer_by: float) -> None:
        self._uplink = uplink
        self._answer_by = answer_by
        uplink.leg.hand_over(self)
        if self._timer is None:
            self._timer = self._loop.call_at(answer_by, self)
        self._step(uplink, 0)

    def _late(self, uplink: Uplink) -> None:
        """There is no answer yet; from a warm connection it is waited for as long as one lives."""
        is_warm = self._dial is None
        if is_warm and self._loop.now < self._deadline and self._is_acknowledged(uplink):
            self._answer_by = self._deadline
            self._timer = self._loop.call_at(self._answer_by, self)
        else:
            self._attempt_failed(TimeoutError())

    def _step(self, uplink: Uplink, events: int) -> None:
        """One event of the ingress's side (0: none yet), and what follows from it."""
        tunnel = uplink.tunnel
        lost: Optional[Exception] = None
        try:
            if tunnel.state is TunnelState.READY:
                tunnel.request(self._connection.target, self._rewriter())
            elif events & READ:
                tunnel.to_local.put(uplink.receive(self._board.raw))
            if tunnel.state is not TunnelState.OPEN:
                uplink.flush()
                uplink.leg.want(tunnel.remote_interest())
        except LegLost as gone:
            lost = last_words(gone, tunnel, self._board.raw)
        except (ssl.SSLError, ProtocolError) as fault:
            lost = fault
        if tunnel.state is TunnelState.OPEN:
            self._open(uplink, lost)
        elif lost is not None:
            self._attempt_failed(lost)

    def _rewriter(self) -> Optional[HostRewriter]:
        host = self._connection.host
        return HostRewriter(host) if host else None

    def _attempt_failed(self, fault: Exception) -> None:
        uplink = self._drop_uplink()
        assert uplink is not None
        state = uplink.tunnel.state
        if isinstance(fault, UpgradeRefused):
            self._tell_pool(uplink)
            self._fail(reason(bare(fault), state, self._ingress.server_name))
        elif self._dial is not None:
            self._dial.go_on(uplink.address, fault, state)
        else:
            self._pool.let_down()
            self._dead_age = self._loop.now - uplink.since
            self._dial = Dial(self._board, self._ingress, self._deadline, self)
            if self._loop.now < self._deadline:
                self._dial.begin()
            else:
                self._dial.go_on(uplink.address, fault, state)

    def _tell_pool(self, uplink: Uplink) -> None:
        """This one was answered; so if the one before it was not, that was not the endpoint's."""
        self._pool.opened(uplink)
        if self._dead_age is not None:
            self._pool.was_dead(self._dead_age)

    def _is_acknowledged(self, uplink: Uplink) -> bool:
        try:
            return not uplink.leg.unsent
        except LegLost:
            return False  # the loop is about to tell why

    def _open(self, uplink: Uplink, lost: Optional[Exception]) -> None:
        self._disarm()
        self._leave_dial()
        connection = self._connection
        self._tell_pool(uplink)
        took = self._loop.now - connection.began
        self._board.opened(connection.target, uplink, took)
        response = uplink.tunnel.response
        for notice in response.notices if response else ():
            self._board.notice(connection.target, printable(notice))
        uplink.tunnel.response = None  # read, and thousands may be open
        relay = Relay(connection, uplink.tunnel, self._local, uplink.leg)
        if lost is None:
            relay.begin()
        else:
            relay.begin_lost(lost)  # an answer, bytes and a reset, all at once

    # Ends

    def _drop_uplink(self) -> Optional[Uplink]:
        if not self._patient:
            self._disarm()
        uplink, self._uplink = self._uplink, None
        if uplink is not None:
            uplink.leave()
        return uplink

    def _leave_dial(self) -> None:
        if self._dial is not None:
            self._dial.abandon()
            self._dial = None

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, failure: Failure) -> None:
        if failure.cause is Cause.NO_DESCRIPTOR:
            self._pool.shed()
        self._connection.failed(failure)
        self._end(failure.text)

    def _end(self, how: str) -> None:
        self._disarm()
        self._leave_dial()
        self._drop_uplink()
        self._local.give_up(reset=True)
        self._connection.end(how)
