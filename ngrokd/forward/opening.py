"""From accept to OPEN: connect, handshake and upgrade, at each of the ingress's addresses in turn.

No byte of the client is read here, so every attempt can be repeated at another address.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward import sockets
from ngrokd.forward.attempts import Attempt, Attempts
from ngrokd.forward.bare import bare
from ngrokd.forward.connection import Connection
from ngrokd.forward.faults import printable, reason
from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.leg import Leg, LegLost
from ngrokd.forward.loop import Timer
from ngrokd.forward.relay import Relay, last_words
from ngrokd.forward.tls import Tls
from ngrokd.forward.tunnel import Tunnel, TunnelState, UpgradeRefused
from ngrokd.model import Cause, Failure, Ingress

# connect(2) of a non-blocking socket that is under way, or done at once
CONNECT_UNDER_WAY = frozenset({0, errno.EINPROGRESS, errno.EINTR})


class Opening:
    """Owner: forward. Ends as a `Relay` or with a reset of the client."""

    def __init__(self, client: socket.socket, connection: Connection, ingress: Ingress) -> None:
        self._connection = connection
        self._board = connection.board
        self._loop = connection.board.loop
        self._ingress = ingress
        self._attempts = Attempts(
            self._board.in_order(ingress), connection.began + connection.settings.connect_timeout
        )
        self._timer: Optional[Timer] = None
        self._local = Leg(client, self._loop, self)
        self._remote: Optional[Leg] = None
        connection.phase = self

    def begin(self) -> None:
        """Try the first address."""
        self._local.want(READ)  # not to read: the client may give up while the tunnel is made
        self._try_next()

    # What the loop calls

    def on_ready(self, fd: int, events: int) -> None:
        """One of the sockets is ready."""
        try:
            if fd == self._local.fd:
                self._on_local()
            elif self._remote is not None:
                self._on_remote(self._remote, events)
        except LegLost as lost:
            self._lost(lost)
        except (ssl.SSLError, ProtocolError) as fault:
            self._attempt_failed(fault)

    def on_timer(self) -> None:
        """The attempt's time is up."""
        self._attempt_failed(TimeoutError())

    def on_fault(self, fault: Exception) -> None:
        """A bug of ours: it costs this connection and no other."""
        self._connection.failed_by_bug(fault)
        self._end("internal error")

    def abandon(self) -> None:
        """The forwarder stops."""
        self._end("stopped")

    # Attempts

    def _try_next(self) -> None:
        while True:
            attempt = self._attempts.next(self._loop.now)
            if attempt is None:
                name = self._ingress.server_name
                text = f"cannot reach the ingress {name}: {self._attempts.summary()}"
                self._fail(Failure(self._attempts.cause(), text))
                return
            try:
                self._connect(attempt)
                return
            except OSError as fault:
                why = reason(fault, TunnelState.CONNECTING, self._ingress.server_name)
                self._attempts.failed(attempt.address, why)

    def _connect(self, attempt: Attempt) -> None:
        self._attempt = attempt
        tls = Tls(self._ingress.context, self._ingress.server_name)
        self._tunnel = Tunnel(self._connection.target, tls, self._board.plain)
        sock = sockets.open_towards(attempt.address.ip)
        error = sock.connect_ex((attempt.address.ip, attempt.address.port))
        if error not in CONNECT_UNDER_WAY:
            sock.close()
            raise OSError(error, os.strerror(error))
        self._remote = Leg(sock, self._loop, self)
        self._remote.want(self._tunnel.remote_interest())
        self._timer = self._loop.call_at(attempt.deadline, self)

    def _attempt_failed(self, fault: Exception) -> None:
        self._drop_remote()
        why = reason(bare(fault), self._tunnel.state, self._ingress.server_name)
        if isinstance(fault, UpgradeRefused):
            self._fail(why)
        else:
            self._attempts.failed(self._attempt.address, why)
            self._try_next()

    def _lost(self, lost: LegLost) -> None:
        if lost.leg is self._local:
            text = f"the client left while the tunnel was {self._tunnel.state.value}"
            self._connection.failed_quietly(Failure(Cause.CLIENT_LEFT, text))
            self._end(text)
            return
        fault = last_words(lost, self._tunnel, self._board.raw)
        if self._tunnel.state is TunnelState.OPEN:
            self._open(lost.leg).begin_lost(fault)  # an answer, bytes and a reset, all at once
        else:
            self._attempt_failed(fault)

    # The client, and one attempt

    def _on_local(self) -> None:
        """The client gave up, or its first bytes or its FIN are there.

        Those stay in the kernel until OPEN, and would be reported at every turn until then. A FIN
        is no giving up: whoever has nothing to send may still wait for the answer.
        """
        if self._local.has_spoken():
            self._local.want(0)

    def _on_remote(self, remote: Leg, events: int) -> None:
        tunnel = self._tunnel
        if tunnel.state is TunnelState.CONNECTING:
            remote.check()  # SO_ERROR is how connect(2) ended
            tunnel.connected()
        else:
            if events & WRITE:
                self._flush(remote)
            if events & tunnel.remote_interest() & READ:
                count = remote.receive_into(self._board.raw)
                if count is not None:
                    tunnel.receive_remote(self._board.raw[:count])
        if tunnel.state is TunnelState.OPEN:
            self._open(remote).begin()
            return
        self._flush(remote)
        remote.want(tunnel.remote_interest())

    def _flush(self, remote: Leg) -> None:
        backlog = self._tunnel.to_remote
        if backlog:
            with backlog.first() as data:
                count = remote.send(data)
            backlog.sent(count)

    def _open(self, remote: Leg) -> Relay:
        self._disarm()
        connection = self._connection
        self._board.opened(
            connection.target, self._attempt.address, self._loop.now - connection.began
        )
        response = self._tunnel.response
        for notice in response.notices if response else ():
            self._board.notice(connection.target, printable(notice))
        return Relay(connection, self._tunnel, self._local, remote)

    # Ends

    def _drop_remote(self) -> None:
        self._disarm()
        remote, self._remote = self._remote, None
        if remote is None:
            return
        try:
            self._flush_alert(remote)
        finally:
            remote.give_up()

    def _flush_alert(self, remote: Leg) -> None:
        """Tell the ingress why it is left, if it still listens."""
        try:
            self._flush(remote)
        except LegLost:
            return  # it does not, and the fault that brought us here is already known

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, failure: Failure) -> None:
        self._connection.failed(failure)
        self._end(failure.text)

    def _end(self, how: str) -> None:
        self._drop_remote()
        self._local.give_up(reset=True)
        self._connection.end(how)
