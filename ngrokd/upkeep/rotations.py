"""Who waits for a new certificate."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Optional

from ngrokd.errors import ControlError


class Rotations:
    """Owner: main thread. Each reply is answered once."""

    def __init__(self) -> None:
        self._waiting: list[Future[Any]] = []

    def add(self, reply: Future[Any]) -> None:
        """`reply` gets the next certificate's end, or why there is none."""
        self._waiting.append(reply)

    def granted(self, not_after: Optional[float]) -> None:
        """A new certificate is in use; Unix seconds."""
        for reply in self._taken():
            reply.set_result(not_after)

    def failed(self, error: BaseException) -> None:
        """ngrok gave none; it is tried again all the same."""
        for reply in self._taken():
            text = f"the old certificate stays in use: {error}"
            reply.set_exception(ControlError("failed", text))

    def refuse(self, why: str) -> None:
        """None is asked for."""
        for reply in self._taken():
            reply.set_exception(ControlError("not_registered", f"{why}; see `ngrokctl status`"))

    def _taken(self) -> list[Future[Any]]:
        waiting, self._waiting = self._waiting, []
        return waiting
