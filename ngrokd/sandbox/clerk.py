"""The one thread that keeps the sandbox's books."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

ASK_TIMEOUT_S = 30  # far above what any answer takes; a lost clerk must not hang a server thread

Answer = TypeVar("Answer")


class Clerk:
    """Runs what it is asked one after another on its own thread, which so owns the books.

    Server threads ask and wait; what is asked returns plain values, never the books themselves.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-clerk")

    def ask(self, question: Callable[..., Answer], *args: Any) -> Answer:
        """Any thread but the clerk's own."""
        return self._thread.submit(question, *args).result(timeout=ASK_TIMEOUT_S)

    def stop(self) -> None:
        """Answers what has been asked, then ends the thread."""
        self._thread.shutdown(wait=True)
