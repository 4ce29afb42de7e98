"""Where log lines go and how they look. One record is one line, and no line holds a secret.

The modules only call `logging.getLogger(__name__)`; `setup` gives the root logger its one handler.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Optional

from ngrokd.config import ServerSettings
from ngrokd.logs.handler import LogHandler
from ngrokd.logs.targets import why
from ngrokd.logs.uncaught import report_uncaught

__all__ = [
    "LEVELS",
    "configure",
    "flush_repeats",
    "forget_secret",
    "keep_secret",
    "reopen",
    "report_uncaught",
    "set_level",
    "setup",
]

LEVELS = ("debug", "info", "warning", "error")


def setup(server: ServerSettings, foreground: bool, environ: Mapping[str, str]) -> None:
    """Sends all records where `server` says, in place of an earlier `setup`'s handler.

    Call it after the fork: it may open a file. Raises HostError if that is not possible.
    """
    handler = LogHandler(server, foreground, environ)
    old = _ours()
    root = logging.getLogger()
    if old is not None:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    set_level(server.log_level)


def configure(server: ServerSettings) -> None:
    """After `setup`, at a reload: level, format and place of the log change from the next line on.

    Raises HostError if the new place cannot be opened; then nothing has changed. Any thread.
    """
    handler = _ours()
    if handler is not None:
        handler.configure(server)
    set_level(server.log_level)


def set_level(level: str) -> None:
    """The least level that is written, from now on. Any thread. ValueError if not one of them."""
    if level not in LEVELS:
        raise ValueError(f"no log level {level[:20]!r}: one of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(level.upper())


def keep_secret(secret: str) -> None:
    """After `setup`: blanks this text out of every line from now on. Any thread.

    A text of less than 8 characters is no secret: without it no line could be read.
    """
    handler = _ours()
    if handler is not None:
        handler.redactor.keep(secret)


def forget_secret(secret: str) -> None:
    """What `keep_secret` was told was no secret: it may be seen again. For who told it.

    Else whoever may try a key could blank out any word in the log, one more with each try.
    """
    handler = _ours()
    if handler is not None:
        handler.redactor.forget(secret)


def reopen() -> None:
    """Opens a log file anew (it was moved away). If that fails the old one is written on to."""
    handler = _ours()
    if handler is None:
        return
    try:
        handler.reopen()
    except OSError as exc:
        logging.getLogger(__name__).warning("%s stays open: %s", handler.place, why(exc))


def flush_repeats(now: float) -> float:
    """Writes the counts of repeated lines that are due at `now`, a time of `time.monotonic`.

    Returns the seconds until it wants to be called again; infinite if nothing was logged lately.
    """
    handler = _ours()
    return math.inf if handler is None else handler.tell(now)


def _ours() -> Optional[LogHandler]:
    handlers = logging.getLogger().handlers
    return next((each for each in handlers if isinstance(each, LogHandler)), None)
