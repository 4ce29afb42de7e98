"""The life of one client's connection in the books: who has it, what it counted, how it ended."""

from __future__ import annotations

import logging
from typing import Optional, Protocol

from ngrokd.config import ForwardSettings
from ngrokd.forward.switchboard import Switchboard
from ngrokd.model import Cause, Failure, Route

logger = logging.getLogger(__name__)


class Phase(Protocol):
    """What has the sockets: an `Opening`, then a `Relay`. Owner: forward."""

    def abandon(self) -> None:
        """Close both sockets with a reset and end the connection, now."""


class Connection:
    """Owner: forward. Counted as open from its making to `end`."""

    __slots__ = (
        "_down",
        "_loop",
        "_tally",
        "_up",
        "began",
        "board",
        "host",
        "phase",
        "progress",
        "settings",
        "target",
    )

    def __init__(self, route: Route, board: Switchboard) -> None:
        self.target = route.target
        self.host = route.host  # what requests get for theirs; "": they stay as they are
        self.board = board
        self.settings: ForwardSettings = board.settings  # a change is for new connections only
        self._loop = board.loop
        self.began = self.progress = board.loop.now
        self.phase: Optional[Phase] = None
        self._tally = board.ledger.of(route.target)
        self._up = self._down = 0
        self._tally.open += 1
        board.join(self)

    def moved(self, up: int = 0, down: int = 0) -> None:
        """Bytes went from or to the client; 0 and 0: something else went on."""
        tally, loop = self._tally, self._loop
        self.progress = loop.now
        tally.last_activity = loop.date
        if up:
            self._up += up
            tally.bytes_up += up
        if down:
            self._down += down
            tally.bytes_down += down

    def failed_quietly(self, failure: Failure) -> None:
        """Count a failure that is no news to an operator."""
        self._tally.fail(failure)

    def failed(self, failure: Failure) -> None:
        """Count a failure and have it said."""
        self.board.failed(self.target, failure)

    def failed_by_bug(self, fault: Exception) -> None:
        """An exception that nobody expected: it is said with its traceback."""
        failure = Failure(Cause.INTERNAL_ERROR, f"internal error: {fault!r}")
        self.board.failed(self.target, failure, fault)

    def end(self, how: str) -> None:
        """The sockets are given up. Once."""
        self.phase = None
        self._tally.open -= 1
        self.board.leave(self)
        logger.debug(
            "%s: connection closed after %.3f s, %d bytes up, %d down: %s",
            self.target,
            self.board.loop.now - self.began,
            self._up,
            self._down,
            how,
        )

    def abandon(self) -> None:
        """The forwarder stops."""
        if self.phase is not None:
            self.phase.abandon()
