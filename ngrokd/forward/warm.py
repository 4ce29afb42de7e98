"""One warm connection: while it is made, and while it waits for a client."""

from __future__ import annotations

import logging
import ssl
from typing import Protocol

from ngrokd.forward.dial import Dial
from ngrokd.forward.switchboard import Switchboard
from ngrokd.forward.uplink import Uplink
from ngrokd.model import Cause, Failure, Ingress

logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """Whom it tells: the pool. Owner: forward."""

    def dialed(self, refill: Refill, uplink: Uplink) -> None:
        """It has shaken hands."""

    def unreachable(self, refill: Refill, failure: Failure) -> None:
        """It cannot be had."""

    def spoke(self, warm: Warm) -> None:
        """The far side sent something."""

    def forget(self, warm: Warm) -> None:
        """It is over."""


class Refill:
    """One that is being made. Owner: the pool."""

    def __init__(self, keeper: Keeper, board: Switchboard, ingress: Ingress) -> None:
        self._keeper = keeper
        self.dial = Dial(board, ingress, board.loop.now + board.settings.connect_timeout, self)

    def dialed(self, uplink: Uplink) -> None:
        """Called by the dial."""
        self._keeper.dialed(self, uplink)

    def unreachable(self, failure: Failure) -> None:
        """Called by the dial."""
        self._keeper.unreachable(self, failure)

    def on_ready(self, fd: int, events: int) -> None:
        raise AssertionError("the dial watches the socket")

    def on_timer(self) -> None:
        raise AssertionError("the dial has the timer")

    def on_fault(self, fault: Exception) -> None:
        """A bug of ours: it is tried again after a pause."""
        logger.error("no warm connection: internal error", exc_info=fault)
        failure = Failure(Cause.INTERNAL_ERROR, f"internal error: {fault!r}")
        self._keeper.unreachable(self, failure)


class Warm:
    """One that waits. Owner: the pool."""

    def __init__(self, keeper: Keeper, uplink: Uplink) -> None:
        self.uplink = uplink
        self._keeper = keeper
        uplink.leg.hand_over(self)
        uplink.leg.want(uplink.tunnel.remote_interest())

    def on_ready(self, fd: int, events: int) -> None:
        """Tickets, or its end."""
        self._keeper.spoke(self)

    def on_timer(self) -> None:
        raise AssertionError("the pool has the timer")

    def on_fault(self, fault: Exception) -> None:
        """A bug of ours: it costs this connection."""
        logger.error("a warm connection is given up: internal error", exc_info=fault)
        self._keeper.forget(self)
        self.uplink.leg.give_up()

    def retire(self) -> None:
        """Leave it in order; the pool has let go of it."""
        try:
            self.uplink.tunnel.say_goodbye()
        except ssl.SSLError as fault:
            logger.debug("a warm connection ends without TLS's end: %s", fault)
        self.uplink.leave()
