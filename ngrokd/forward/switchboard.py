"""What all connections of the forwarding thread share."""

from __future__ import annotations

import logging
import math
import mmap
import resource
from collections.abc import Callable
from typing import Optional, Protocol

from ngrokd.config import ForwardSettings
from ngrokd.forward.bursts import Bursts
from ngrokd.forward.ledger import Ledger
from ngrokd.forward.loop import Loop, Timer
from ngrokd.forward.sessions import Sessions
from ngrokd.forward.tunnel import PLAIN_BYTES, READ_BYTES
from ngrokd.forward.uplink import Uplink
from ngrokd.model import Address, Failure, Ingress, Target

# For everything that is not a connection or listener. At rest that is about 30; polls, the hosts
# file and the control socket need theirs whatever clients do, or names would lead to what is gone.
RESERVED_DESCRIPTORS = 64
DESCRIPTORS_EACH = 2  # of one connection
# What all bulk flows together may move in one turn, a millisecond or so, for which a small request
# on another connection has to wait; each flow moves at least one TLS record and a bit.
TURN_BYTES = 8 * READ_BYTES
LEAST_READ_BYTES = 17 * 1024

logger = logging.getLogger(__name__)


class OpenConnection(Protocol):
    """What can be ended from outside. Owner: forward."""

    def abandon(self) -> None:
        """Close both sockets with a reset, now."""


class Switchboard:
    """Owner: forward."""

    def __init__(self, loop: Loop, settings: ForwardSettings) -> None:
        self.loop = loop
        self.settings = settings
        self.ledger = Ledger()
        # What a socket gave, for one call; and what was decrypted, until the next tunnel's turn.
        # Of such memory only what was once written to is taken: nothing before the first tunnel.
        self.raw = memoryview(mmap.mmap(-1, READ_BYTES))
        self.plain = memoryview(mmap.mmap(-1, PLAIN_BYTES))
        self.connections: set[OpenConnection] = set()
        self.listeners = 0  # how many descriptors they hold
        self.sessions = Sessions()
        # Attempts that verified the ingress's certificate, those that refused it, and dials that
        # reached no TLS at all: others may read them, to learn that something has happened.
        self.verified = self.distrusted = self.unreached = 0
        self._ingress: Optional[Ingress] = None
        self._served_last: Optional[Address] = None
        self._bursts = Bursts()
        self._timer: Optional[Timer] = None
        self._wakes = math.inf  # when the timer does
        self._when_empty: list[Callable[[], None]] = []

    # The ingress

    @property
    def ingress(self) -> Optional[Ingress]:
        """Where new tunnels go; `None`: not known yet, or it has no address."""
        return self._ingress if self._ingress and self._ingress.addresses else None

    def set_ingress(self, ingress: Optional[Ingress]) -> bool:
        """New connections go there; whether it is another one than before, or otherwise trusted."""
        self._ingress = ingress
        return self.sessions.serve(ingress)

    def in_order(self, ingress: Ingress) -> list[Address]:
        """The ingress's addresses, the one that served last first: a dead one costs time once."""
        addresses = ingress.addresses
        if len(addresses) == 1:
            return list(addresses)
        return sorted(addresses, key=lambda address: address != self._served_last)

    def learn_session(self, uplink: Uplink) -> None:
        """What has come over it by now may have brought a session to resume."""
        self.sessions.learn(uplink.ingress, uplink.address, uplink.tunnel.tls, self.loop.now)

    # Connections

    def read_buffer(self) -> memoryview:
        """`raw`, or less of it where many are ready in this turn."""
        load = self.loop.load
        if load * READ_BYTES <= TURN_BYTES:
            return self.raw
        return self.raw[: max(TURN_BYTES // load, LEAST_READ_BYTES)]

    def limit(self) -> int:
        """How many connections may be open at once."""
        allowed = self._descriptor_limit()
        return min(self.settings.max_connections or allowed, allowed)

    def room(self) -> int:
        """How many more there may be."""
        return self.limit() - len(self.connections)

    def _descriptor_limit(self) -> int:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            soft = 1 << 20
        return max((soft - self.listeners - RESERVED_DESCRIPTORS) // DESCRIPTORS_EACH, 1)

    def join(self, connection: OpenConnection) -> None:
        """A connection begins."""
        self.connections.add(connection)

    def leave(self, connection: OpenConnection) -> None:
        """A connection is over."""
        self.connections.discard(connection)
        if not self.connections:
            calls, self._when_empty = self._when_empty, []
            for call in calls:
                call()

    def when_empty(self, call: Callable[[], None]) -> None:
        """Call once no connection is open, at once if so."""
        if self.connections:
            self._when_empty.append(call)
        else:
            call()

    # What is said about them

    def opened(self, target: Target, uplink: Uplink, seconds: float) -> None:
        """A tunnel opened, so long after its client came."""
        self._served_last = uplink.address
        self.learn_session(uplink)
        self.ledger.opened(seconds)
        self._bursts.success(target)

    def failed(
        self, target: Target, failure: Failure, fault: Optional[Exception] = None
    ) -> None:
        """Count and say that a connection failed. `fault`: a bug, printed whole."""
        self.ledger.of(target).fail(failure)
        line = self._bursts.fault(target, failure, self.loop.now)
        if line is not None:
            logger.warning("%s", line, exc_info=fault)
            self._arm()

    def notice(self, target: Target, text: str) -> None:
        """Say, once, what ngrok wants the operator to know."""
        line = self._bursts.notice(target, text, self.loop.now)
        if line is not None:
            logger.warning("%s", line)
            self._arm()

    def on_ready(self, fd: int, events: int) -> None:
        raise AssertionError("the switchboard watches no socket")

    def on_timer(self) -> None:
        """Say what has been counted since."""
        self._timer = None
        self._wakes = math.inf
        for line in self._bursts.due(self.loop.now):
            logger.warning("%s", line)
        self._arm()

    def on_fault(self, fault: Exception) -> None:
        raise fault  # no connection's fault: a bug

    def _arm(self) -> None:
        when = self._bursts.next_due()
        if when is not None and when < self._wakes:
            if self._timer is not None:
                self._timer.cancel()
            self._wakes = when
            self._timer = self.loop.call_at(when, self)
