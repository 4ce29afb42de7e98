"""What nobody caught, in whatever thread, becomes one log line."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Callable, Optional

from ngrokd.logs.handler import LogHandler

logger = logging.getLogger(__name__)

OnDeath = Callable[[str, BaseException], None]


@contextlib.contextmanager
def report_uncaught(on_death: OnDeath) -> Iterator[None]:
    """While inside, a thread that dies is logged and then told to `on_death`, by its name.

    `on_death` is called on the dying thread. What the interpreter itself has to swallow (in a
    finalizer, say) is logged and goes on. If the inside raises, the process is about to end by it:
    then `sys.excepthook` stays, so that the last word is one line of the log.
    """

    def thread_died(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        error = args.exc_value or args.exc_type()
        logger.critical("thread %s died", name, exc_info=error)
        on_death(name, error)

    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    sys.excepthook = _main_died
    threading.excepthook = thread_died
    sys.unraisablehook = _swallowed
    ended = False
    try:
        yield
        ended = True
    finally:
        threading.excepthook, sys.unraisablehook = hooks[1:]
        if ended:
            sys.excepthook = hooks[0]


def _main_died(
    kind: type[BaseException], error: BaseException, trace: Optional[TracebackType]
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logger.critical("ngrokd ends by a fault of its own", exc_info=(kind, error, trace))
    handlers = logging.getLogger().handlers
    if any(isinstance(each, LogHandler) and not each.on_stderr for each in handlers):
        # Its text may hold a secret; the log blanks it out.
        with contextlib.suppress(OSError, ValueError, AttributeError):  # who typed has gone
            sys.stderr.write(f"ngrokd ends by a fault of its own, {kind.__name__}; see its log\n")


def _swallowed(args: Any) -> None:  # sys.UnraisableHookArgs, which exists for type checkers only
    # Not its repr: the object may be half gone, and may be anything.
    where = getattr(args.object, "__qualname__", type(args.object).__name__)
    said = args.err_msg or "exception ignored in"
    fault = (args.exc_type, args.exc_value, args.exc_traceback)
    logger.error("%s %s", said, where, exc_info=fault)
