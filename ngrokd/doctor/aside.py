"""Looks that may take long, each on a thread of its own, of which nobody waits for ever.

A resolver that does not answer holds up each name by half a minute or more, and nothing that this
program could set bounds that.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Callable, Generic, Optional, TypeVar, Union

Found = TypeVar("Found")


class Aside(Generic[Found]):
    """One look, which begins at once. Owner: who made it."""

    def __init__(self, look: Callable[[], Found]) -> None:
        self._look = look
        self._news: queue.SimpleQueue[Union[tuple[Found], BaseException]] = queue.SimpleQueue()
        # A daemon thread: the program ends without it.
        threading.Thread(target=self._run, name="aside", daemon=True).start()

    def found(self, until: float) -> Optional[Found]:
        """What it found; None: nothing by `until`, of the monotonic clock. Raises what it did."""
        try:
            news = self._news.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(news, BaseException):
            raise news
        return news[0]

    def _run(self) -> None:
        try:
            self._news.put((self._look(),))
        except BaseException as exc:  # noqa: BLE001 - raised again where it is asked for
            self._news.put(exc)
