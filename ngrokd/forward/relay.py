"""From OPEN to close: bytes both ways between the two sockets of a connection."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward.backlog import Bytes
from ngrokd.forward.connection import Connection
from ngrokd.forward.delivery import Delivery
from ngrokd.forward.faults import reason
from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.leg import Leg, LegLost
from ngrokd.forward.loop import Timer
from ngrokd.forward.tls import STEP_BYTES
from ngrokd.forward.tunnel import Flow, Tunnel, TunnelState
from ngrokd.forward.uplink import flush, last_words
from ngrokd.model import Cause, Failure

PULSE_S = 30.0  # how often the peers are asked whether they still acknowledge what is sent


class Relay:
    """Owner: forward. Each event moves at most one batch each way, so that none starves another."""

    __slots__ = (
        "_board",
        "_connection",
        "_delivery",
        "_half_closed",
        "_local",
        "_pulse_at",
        "_remote",
        "_timer",
        "_tunnel",
    )

    def __init__(self, connection: Connection, tunnel: Tunnel, local: Leg, remote: Leg) -> None:
        self._connection = connection
        self._board = connection.board
        self._tunnel = tunnel
        self._local = local
        self._remote: Optional[Leg] = remote
        self._timer: Optional[Timer] = None
        self._half_closed = False  # what the timer was armed for
        self._pulse_at = self._board.loop.now + PULSE_S
        self._delivery = Delivery()
        connection.phase = self
        connection.moved(0, 0)  # the idle time begins here, not at the accept
        local.hand_over(self)
        remote.hand_over(self)

    def begin(self) -> None:
        """Deliver what came with the upgrade's answer, and wait for more."""
        self._guard(self._flush, 0)

    def begin_lost(self, fault: Exception) -> None:
        """Deliver what came with the upgrade's answer; the ingress's side is already gone."""
        self._guard(lambda _: self._remote_lost(fault), 0)

    # What the loop calls

    def on_ready(self, fd: int, events: int) -> None:
        """One of the sockets is ready."""
        self._guard(self._on_local if fd == self._local.fd else self._on_remote, events)

    def on_timer(self) -> None:
        """Nothing moved for too long, a peer acknowledges nothing any more, or all is well."""
        self._timer = None
        self._guard(self._look, 0)

    def on_fault(self, fault: Exception) -> None:
        """A bug of ours: it costs this connection and no other."""
        self._connection.failed_by_bug(fault)
        self._end("internal error", reset=True)

    def abandon(self) -> None:
        """The forwarder stops."""
        self._end("stopped", reset=True)

    def _guard(self, step: Callable[[int], bool], events: int) -> None:
        """One step, and what follows from it for both sockets if it says that something does."""
        try:
            try:
                if not step(events):
                    return
            except LegLost as lost:
                if lost.leg is self._local:
                    raise
                self._remote_lost(last_words(lost, self._tunnel, self._board.raw))
            except (ssl.SSLError, ProtocolError) as fault:
                self._remote_lost(fault)
            self._settle()
        except LegLost as lost:  # the client: whatever the ingress still sends has no taker
            self._end(f"the client is gone ({lost.fault})", reset=True)

    # Bytes. A step says whether what is waited for may be another now: while both sockets take all
    # they are given, which is the rule, it stays the same, and nothing else is looked at.

    def _on_local(self, events: int) -> bool:
        if events & WRITE:
            self._flush_local()
        if not events & self._local.watched & READ:
            return True
        tunnel = self._tunnel
        buffer = self._board.read_buffer()
        if tunnel.rewriter is not None:
            buffer = buffer[: tunnel.rewriter.client_step]
        count = self._local.receive_into(buffer)
        if count is None:
            return True
        self._connection.moved(count, 0)
        if 0 < count <= STEP_BYTES:
            self._send_remote(tunnel.receive_local(buffer[:count]))
        else:
            for start in range(0, count or 1, STEP_BYTES):
                step = buffer[start : min(start + STEP_BYTES, count)]
                self._send_remote(tunnel.receive_local(step))
        return not (count and events == READ and tunnel.is_calm)

    def _on_remote(self, events: int) -> bool:
        remote, tunnel = self._remote, self._tunnel
        if remote is None:
            return True
        if events & WRITE:
            self._flush_remote()
        if not events & remote.watched & READ:
            return True
        buffer = self._board.read_buffer()
        if tunnel.rewriter is not None:
            buffer = buffer[: tunnel.rewriter.server_step]
        count = remote.receive_into(buffer)
        if count is None:
            return True
        if 0 < count <= STEP_BYTES:
            sent = self._send_local(tunnel.receive_remote(buffer[:count]))
        else:
            sent = 0
            for start in range(0, count or 1, STEP_BYTES):
                step = buffer[start : min(start + STEP_BYTES, count)]
                sent += self._send_local(tunnel.receive_remote(step))
                if tunnel.down is not Flow.RUNNING:
                    break
        self._connection.moved(0, sent)
        return not (events == READ and tunnel.is_calm)

    def _send_remote(self, data: Bytes) -> None:
        """Behind what waits already, if something does."""
        backlog, remote = self._tunnel.to_remote, self._remote
        if not len(backlog) and remote is not None:
            count = remote.send(data)
            if count == len(data):
                return
            data = memoryview(data)[count:]
        backlog.put(data)

    def _send_local(self, data: memoryview) -> int:
        """Likewise; how many bytes the client's kernel took."""
        backlog = self._tunnel.to_local
        if len(backlog) or not len(data):
            backlog.put(data)
            return 0
        count = self._local.send(data)
        if count < len(data):
            backlog.put(data[count:])
        return count

    def _flush(self, _events: int = 0) -> bool:
        self._flush_local()
        self._flush_remote()
        return True

    def _flush_local(self) -> None:
        backlog = self._tunnel.to_local
        if backlog:
            with backlog.first() as data:
                count = self._local.send(data)
            backlog.sent(count)
            if count:
                self._connection.moved(0, count)

    def _flush_remote(self) -> None:
        if self._remote is not None and flush(self._tunnel, self._remote):
            self._connection.moved(0, 0)

    # Ends

    def _settle(self) -> None:
        """After every step: pass ends on, stop when all is done, else wait for what is left."""
        tunnel = self._tunnel
        if tunnel.fault is not None:
            self._drop_remote(reset=True)
        if tunnel.local_end_due:
            self._local.send_end()
            tunnel.local_end_sent()
        if tunnel.cut_due and self._is_delivered():
            self._end_cut()
        elif tunnel.finished:
            self._end("both sides are done")
        else:
            self._local.want(tunnel.local_interest())
            if self._remote is not None:
                self._remote.want(tunnel.remote_interest())
            # Once a cut is due, nothing but the timer comes here, and it must know the next look.
            changed = tunnel.cut_due or tunnel.half_closed is not self._half_closed
            if self._timer is None or changed:
                self._arm()

    def _remote_lost(self, fault: Exception) -> bool:
        self._tunnel.remote_lost(fault)
        self._connection.moved(0, 0)  # the time for the client to take what came before begins here
        self._flush_local()
        return True

    def _is_delivered(self) -> bool:
        """Whether a reset takes nothing from the client any more. Acknowledgements are progress."""
        unsent = self._local.unsent
        if self._delivery.look(unsent):
            self._connection.moved(0, 0)
        return not unsent

    def _end_cut(self) -> None:
        fault = self._tunnel.fault
        assert fault is not None, "a cut is due only after a fault"
        why = reason(fault, TunnelState.OPEN, "")
        failure = Failure(why.cause, f"the connection to the ingress broke: {why.text}")
        if why.cause is Cause.RESET_WHILE_OPEN:
            self._connection.failed_quietly(failure)
        else:
            self._connection.failed(failure)
        self._end(failure.text, reset=True)

    def _end_idle(self, limit: float) -> None:
        """Nobody may take it for the other side's end, which is what an orderly end would say."""
        text = f"nothing moved for {limit:g} s"
        tunnel = self._tunnel
        stuck = bool(tunnel.to_local or tunnel.to_remote or tunnel.holds or tunnel.fault)
        if stuck or tunnel.half_closed:
            self._connection.failed_quietly(Failure(Cause.STALLED, text))
        self._drop_remote(reset=stuck or tunnel.up is Flow.RUNNING)
        self._end(text, reset=stuck or tunnel.down is not Flow.ENDED)

    def _end(self, how: str, reset: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_remote(reset)
        self._local.give_up(reset)
        self._connection.end(how)

    def _drop_remote(self, reset: bool) -> None:
        remote, self._remote = self._remote, None
        if remote is not None:
            remote.give_up(reset)

    # Time

    def _idle_limit(self) -> float:
        """Seconds without progress after which the connection ends; 0: never."""
        settings = self._connection.settings
        limits = [settings.idle_timeout]
        if self._tunnel.half_closed:
            limits.append(settings.half_close_timeout)
        return min((limit for limit in limits if limit), default=0)

    def _arm(self) -> None:
        """Wake at the next pulse or look, or when the idle limit may be reached; end if it is."""
        now = self._board.loop.now
        limit = self._idle_limit()
        if limit and now - self._connection.progress >= limit:
            self._end_idle(limit)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._half_closed = self._tunnel.half_closed
        when = self._pulse_at
        if limit:
            when = min(when, self._connection.progress + limit)
        if self._tunnel.cut_due:
            when = min(when, now + self._delivery.pause_s)
        self._timer = self._board.loop.call_at(when, self)

    def _look(self, _events: int) -> bool:
        """Look for what no event tells: silence, and a reset of a side that is not being read.

        An ingress that is held back for a slow client is not asked: what it sent before its reset
        is still to be read, and the reset shows behind it.
        """
        self._local.check()
        if self._remote is not None and self._tunnel.down is not Flow.RUNNING:
            self._remote.check()
        # At its own pace, whatever else this timer is for: silence is counted in pulses.
        if self._board.loop.now >= self._pulse_at:
            self._pulse_at = self._board.loop.now + PULSE_S
            self._local.pulse()
            if self._remote is not None:
                self._remote.pulse()
        return True
