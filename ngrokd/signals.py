"""Signals and dying threads become messages in the main thread's mailbox."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Callable

from ngrokd.messages import Crashed, Message, Reload, Stop


@contextlib.contextmanager
def posted(post: Callable[[Message], None]) -> Iterator[None]:
    """TERM and INT stop, HUP reloads; PIPE is a broken connection's own business.

    Call on the main thread. What was in force before is put back at the end.
    """
    handlers: dict[signal.Signals, Any] = {
        signal.SIGTERM: lambda number, frame: post(Stop("SIGTERM")),
        signal.SIGINT: lambda number, frame: post(Stop("SIGINT")),
        signal.SIGHUP: lambda number, frame: post(Reload()),
        signal.SIGPIPE: signal.SIG_IGN,
    }

    def thread_died(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            post(Crashed(args.thread.name if args.thread else "?", args.exc_value))

    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    hook_before, threading.excepthook = threading.excepthook, thread_died
    try:
        yield
    finally:
        threading.excepthook = hook_before
        for number, handler in before.items():
            signal.signal(number, handler)
