"""Signals and dying threads become messages in the main thread's mailbox."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Callable

from ngrokd.messages import Crashed, DumpStatus, Message, Reload, Stop

Handlers = dict[signal.Signals, Any]

# Their default is to end the process, and with it the chance to take our names away.
_IGNORED: Handlers = dict.fromkeys(
    (signal.SIGPIPE, signal.SIGUSR2, signal.SIGALRM), signal.SIG_IGN
)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """While starting: TERM, INT and QUIT end it, taking away what there is already."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    ends: Handlers = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT), end)
    with _handling({**ends, **_IGNORED, signal.SIGHUP: signal.SIG_IGN}):
        yield


@contextlib.contextmanager
def posted(post: Callable[[Message], None]) -> Iterator[None]:
    """TERM, INT and QUIT stop, HUP reloads, USR1 writes the status into the log.

    Call on the main thread. What was in force before is put back at the end.
    """
    handlers: Handlers = {
        signal.SIGTERM: lambda number, frame: post(Stop("SIGTERM")),
        signal.SIGINT: lambda number, frame: post(Stop("SIGINT")),
        signal.SIGQUIT: lambda number, frame: post(Stop("SIGQUIT")),
        signal.SIGHUP: lambda number, frame: post(Reload()),
        signal.SIGUSR1: lambda number, frame: post(DumpStatus()),
    }

    def thread_died(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            post(Crashed(args.thread.name if args.thread else "?", args.exc_value))

    hook_before, threading.excepthook = threading.excepthook, thread_died
    try:
        with _handling({**handlers, **_IGNORED}):
            yield
    finally:
        threading.excepthook = hook_before


@contextlib.contextmanager
def _handling(handlers: Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
