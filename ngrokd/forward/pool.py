"""Warm ingress connections: handshaked beforehand, for whichever endpoint is asked for next.

Theory of operation. `take` gives away what is ready and never makes anybody wait; what is missing
then is dialed after the events of this turn, some at a time. `Demand` says how many are wanted,
`Lifetime` how old they may get, `Pacing` when another is tried after a failure. A waiting
connection is watched for reading: tickets are taken in, an end or a reset teaches `Lifetime`, and
anything else ends it. What fails is tried again in silence: a client who meets the same fault has
it said.

All belong to one ingress. Another certificate, authority or name drops them, as does an address
that the ingress no longer has: what is given away is what a new connection would have been.
"""

from __future__ import annotations

import errno
import logging
import math
import ssl
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward.demand import OFF, Demand
from ngrokd.forward.faults import DROPPED_UNASKED, reason
from ngrokd.forward.leg import LegLost
from ngrokd.forward.lifetime import SHORTEST_S, Lesson, Lifetime
from ngrokd.forward.loop import Timer
from ngrokd.forward.pacing import PROOF_S, Pacing
from ngrokd.forward.stock import Stock
from ngrokd.forward.switchboard import Switchboard
from ngrokd.forward.tunnel import TunnelState
from ngrokd.forward.uplink import Uplink
from ngrokd.forward.warm import Refill, Warm
from ngrokd.model import Cause, Failure, Ingress, WarmStatus

# As long as half of them are there, the clients of this moment are served before more are made: a
# handshake costs both this machine and the ingress more than a client's first request.
REFILL_DELAY_S = 0.02
LOOK_AGAIN_S = 1.0  # where there is no room for all that are wanted

logger = logging.getLogger(__name__)


class Pool:
    """Owner: forward."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._loop = board.loop
        self._demand = Demand(board.settings.warm_connections)
        self._lifetime = Lifetime()
        self._ready = Stock()
        self._refills: set[Refill] = set()
        self._timer: Optional[Timer] = None
        self._wakes = math.inf  # when the timer does
        self._pacing = Pacing()
        self._used = self._missed = 0
        self._said_none = False  # that the ingress wants none
        self._closed = False

    def take(self) -> Optional[Uplink]:
        """A client has come: a connection that waits, or `None`."""
        if self._demand.setting == OFF:
            return None
        now = self._loop.now
        self._demand.client(now)
        found = self._ready.take(now, self._lifetime.limit_s(now))
        if found is None:
            self._missed += 1
        else:
            self._used += 1
        enough = 2 * len(self._ready) >= self._wanted(now)
        self._tend_by(now + REFILL_DELAY_S if enough else now)
        return found

    def let_down(self) -> None:
        """One that was given away came to nothing: its client found none, after all."""
        self._used -= 1
        self._missed += 1

    def was_dead(self, age_s: float) -> None:
        """That was its own fault, for a new connection was answered: it had waited too long."""
        self._dropped(age_s)

    def opened(self, uplink: Uplink) -> None:
        """A client got its answer over this one."""
        now = self._loop.now
        self._lifetime.survived(now - uplink.since)
        self._learned(self._lifetime.served(now))
        if self._pacing.in_trouble:
            self._pacing.proved()
            self.tend_soon()

    def serve(self, ingress: Optional[Ingress], is_another: bool) -> None:
        """New connections go there; `is_another`: also by another name, certificate or trust."""
        addresses = ingress.addresses if ingress else ()
        self._ready.retire_if(lambda uplink: is_another or uplink.address not in addresses)
        if is_another:
            self._abandon_refills()
            self._lifetime.forget()
            self._said_none = False
            self._pacing.proved()
        self.tend_soon()

    def distrust(self, addresses: Optional[frozenset[str]]) -> None:
        """The network is another for what was made from these addresses; `None`: from any.

        What waits may be dead without knowing it, and what is being made may wait for nobody. If it
        is another for all, why earlier ones failed says nothing any more.
        """
        if addresses is None:
            self._abandon_refills()
            self._pacing.proved()
        self._ready.retire_if(lambda uplink: addresses is None or uplink.leg.local_ip in addresses)
        self.tend_soon()

    def configure(self, setting: str) -> None:
        """How many are to be kept from now on."""
        if setting != self._demand.setting:
            self._demand = Demand(setting)
        self.tend_soon()  # more connections may be allowed now

    def shed(self) -> None:
        """No descriptor is left for a client: for a while none for those who have not come yet."""
        self._pacing.rest(self._loop.now)
        self._abandon_refills()
        self._ready.retire_to(0)

    def close(self) -> None:
        """None is kept any more."""
        self._closed = True
        self._abandon_refills()
        self._ready.retire_to(0)
        self._disarm()

    def status(self) -> WarmStatus:
        """For people, as of now."""
        now = self._loop.now
        return WarmStatus(
            setting=self._demand.setting,
            ready=len(self._ready),
            wanted=self._wanted(now),
            used=self._used,
            missed=self._missed,
            max_age_s=self._lifetime.limit_s(now),
            problem=self._pacing.problem,
        )

    def tend_soon(self) -> None:
        """See to the number of them, after the events of this turn."""
        self._tend_by(self._loop.now)

    # What the loop calls

    def on_ready(self, fd: int, events: int) -> None:
        raise AssertionError("the pool itself watches no socket")

    def on_timer(self) -> None:
        """Retire what is too old or too many, dial what is missing."""
        self._disarm()
        now = self._loop.now
        limit_s = self._lifetime.limit_s(now)
        for age_s in self._ready.retire_older(now, limit_s):
            self._lifetime.survived(age_s)
        wanted = self._wanted(now)
        self._ready.retire_to(wanted)
        if not wanted or self._pacing.is_proved_by(self._ready.since(), now):
            self._pacing.proved()
        missing = wanted - len(self._ready) - len(self._refills)
        ingress = self._board.ingress
        if ingress is not None:
            allowed = self._pacing.allowed(len(self._refills), self._ready.since(), now)
            for _ in range(min(missing, allowed)):
                self._refill(ingress)
        self._arm(self._next_look(now, limit_s, missing))

    def on_fault(self, fault: Exception) -> None:
        raise fault  # no connection's fault: a bug

    # What became of one

    def dialed(self, refill: Refill, uplink: Uplink) -> None:
        """It is ready."""
        self._refills.discard(refill)
        refill.dial.abandon()
        warm = Warm(self, uplink)
        ingress = self._board.ingress
        if ingress is not None and uplink.address in ingress.addresses:
            self._ready.add(warm)
        else:
            warm.retire()  # it has moved meanwhile
        self.tend_soon()

    def unreachable(self, refill: Refill, failure: Failure) -> None:
        """It cannot be had."""
        self._refills.discard(refill)
        refill.dial.abandon()
        self._failed(failure)

    def spoke(self, warm: Warm) -> None:
        """The far side sent something to one that waits: tickets, or its end."""
        uplink = warm.uplink
        try:
            uplink.receive(self._board.raw)
            uplink.flush()
            uplink.leg.want(uplink.tunnel.remote_interest())
        except LegLost as lost:
            self._lost(warm, lost.fault)
        except (ssl.SSLError, ProtocolError) as fault:
            self._lost(warm, fault)
        else:
            self._board.learn_session(uplink)

    def forget(self, warm: Warm) -> None:
        """It is over for a reason of its own."""
        self._ready.drop(warm)
        self.tend_soon()

    def _lost(self, warm: Warm, fault: Exception) -> None:
        self.forget(warm)
        uplink = warm.uplink
        uplink.leave()
        ends = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ProtocolError, ConnectionError)
        if isinstance(fault, ends):
            self._dropped(self._loop.now - uplink.since)
        elif not (isinstance(fault, OSError) and fault.errno == errno.ETIMEDOUT):
            self._failed(reason(fault, TunnelState.READY, uplink.ingress.server_name))

    def _dropped(self, age_s: float) -> None:
        now = self._loop.now
        self._learned(self._lifetime.dropped(age_s, now))
        if age_s < SHORTEST_S:
            self._pacing.failed(now, DROPPED_UNASKED)
        self.tend_soon()

    def _learned(self, lesson: Optional[Lesson]) -> None:
        if lesson is not None and (lesson.limit_s or not self._said_none):
            self._said_none = self._said_none or not lesson.limit_s
            logger.info("%s", lesson)

    def _failed(self, failure: Failure) -> None:
        logger.debug("no warm connection: %s", failure.text)
        self._pacing.failed(self._loop.now, failure.text)
        if failure.cause is Cause.NO_DESCRIPTOR:
            self.shed()
        self.tend_soon()

    # How many

    def _wanted(self, now: float) -> int:
        limit_s = self._lifetime.limit_s(now)
        board = self._board
        if self._closed or not limit_s or not board.listeners or board.ingress is None:
            return 0
        return max(0, min(self._demand.wanted(now, limit_s), board.room()))

    def _refill(self, ingress: Ingress) -> None:
        refill = Refill(self, self._board, ingress)
        self._refills.add(refill)
        self._loop.guard(refill.dial.begin, refill)

    def _abandon_refills(self) -> None:
        refills, self._refills = self._refills, set()
        for refill in refills:
            refill.dial.abandon()

    # Time

    def _tend_by(self, when: float) -> None:
        if self._wakes > when:
            self._arm(when)

    def _next_look(self, now: float, limit_s: float, missing: int) -> Optional[float]:
        times = [self._demand.next_change(), self._lifetime.forgotten_at()]
        waiting = self._ready.since()
        if waiting:
            times.append(waiting[0] + limit_s)
        if missing > 0:
            times.append(self._pacing.not_before)
        times += [since + PROOF_S for since in self._pacing.unproved(waiting, now)]
        if limit_s and self._demand.wanted(now, limit_s) > self._board.room():
            times.append(now + LOOK_AGAIN_S)
        return min((when for when in times if when is not None and when > now), default=None)

    def _arm(self, when: Optional[float]) -> None:
        self._disarm()
        if when is not None and not self._closed:
            self._wakes = when
            self._timer = self._loop.call_at(when, self)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._wakes = math.inf
