"""Replies that wait for ngrok's answer to a poll."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ngrokd.errors import ControlError
from ngrokd.reconcile.outcome import Change


@dataclass(frozen=True)
class _Reply:
    future: Future[Any]
    until: float


class Awaited:
    """Owner: main thread, which also runs the callbacks of the futures. Times are monotonic."""

    def __init__(self) -> None:
        self._next: list[_Reply] = []  # answered by the poll that comes next
        self._later: list[_Reply] = []  # answered by the poll after the one under way

    def add(self, future: Future[Any], polling: bool, until: float) -> None:
        """`polling`: what the poll under way brings may be older than what this one asks for."""
        (self._later if polling else self._next).append(_Reply(future, until))

    def applied(self, change: Change, open_count: int) -> None:
        """A poll was applied: what it changed, and how many endpoints are open now."""
        for reply in self._taken():
            reply.future.set_result({"endpoints": open_count, **dataclasses.asdict(change)})

    def failed(self, error: BaseException) -> None:
        """A poll or what it needs failed."""
        for reply in self._taken():
            reply.future.set_exception(ControlError("poll_failed", str(error)))

    def expire(self, now: float) -> None:
        """Answers those that have waited long enough."""
        late = [reply for reply in self._next + self._later if reply.until <= now]
        self._next = [reply for reply in self._next if reply not in late]
        self._later = [reply for reply in self._later if reply not in late]
        for reply in late:
            text = "ngrok has not answered yet; `ngrokctl wait` returns when it has"
            reply.future.set_exception(ControlError("timeout", text))

    def wait_s(self, now: float) -> float:
        """Until `expire` has something to do."""
        waits = [reply.until - now for reply in self._next + self._later]
        return max(0.0, min(waits, default=math.inf))

    def _taken(self) -> list[_Reply]:
        replies, self._next, self._later = self._next, self._later, []
        return replies
