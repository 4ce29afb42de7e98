"""Asks the daemon again and again, beside the screen, which waits for none of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Union

from ngrokd.control.top.samples import Outage, Sample
from ngrokd.errors import NgrokdError

News = Union[Sample, Outage, Exception]


class Source:
    """Owner: the main thread; `look` and `wake` are called on a thread of its own."""

    def __init__(
        self, look: Callable[[], Sample], interval_s: float, wake: Callable[[], object]
    ) -> None:
        self._look = look
        self._interval_s = interval_s
        self._wake = wake
        self._over = threading.Event()
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        # An answer may take seconds, and nobody who quits wants to wait for it.
        self._thread = threading.Thread(target=self._ask, name="source", daemon=True)

    def start(self) -> None:
        """The first look comes after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """No look begins any more."""
        self._over.set()

    def news(self) -> list[Union[Sample, Outage]]:
        """What has come since the last call. Raises what was no failure of a daemon's."""
        found: list[Union[Sample, Outage]] = []
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, Exception):
                raise news
            found.append(news)
        return found

    def _ask(self) -> None:
        while not self._over.wait(self._interval_s):
            news = self._next()
            if self._over.is_set():
                return
            self._news.put(news)
            self._wake()
            if isinstance(news, Exception):
                return

    def _next(self) -> News:
        try:
            return self._look()
        except NgrokdError as exc:
            return Outage(time.monotonic(), str(exc))
        except Exception as exc:  # noqa: BLE001 - raised again by `news`, once nothing is drawn
            return exc
