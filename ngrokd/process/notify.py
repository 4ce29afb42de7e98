"""Tells the service manager how the daemon is, as sd_notify(3) describes it.

Not handed on to what the daemon runs: commands get an environment of their own.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from typing import Optional

logger = logging.getLogger(__name__)

# Characters of a status line. The manager ignores a whole message of more than 4096 bytes, READY
# with it, and a character is 4 bytes at most.
_MAX_STATUS = 500

# Seconds. A manager that does not read its socket must not hold the main thread for long.
_SEND_TIMEOUT_S = 2.0

# What ends a line would begin another assignment; NUL and the like are refused by the manager.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_USEC = 1_000_000
_MAX_DIGITS = 19  # of a 64-bit number, which is what the manager counts with
_MIN_WATCHDOG_S = 0.05  # a mistake in a unit must not keep a processor busy


class Notifier:
    """Every call sends one datagram of its own and keeps no socket. Owner: main; any thread may.

    Without NOTIFY_SOCKET nothing is sent. A manager that cannot be reached is no fault of ours: one
    debug line. `watchdog_s` is the longest pause in seconds between calls of `alive`: half of what
    the manager waits before it kills us; None while it does not watch this process.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        watched = _number(environ.get("WATCHDOG_PID", "")) in (None, os.getpid())
        limit = _number(environ.get("WATCHDOG_USEC", ""))
        self._patience_s = _SEND_TIMEOUT_S
        self.watchdog_s: Optional[float] = None
        if self._address is not None and watched and limit:
            self.watchdog_s = max(limit / _USEC / 2, _MIN_WATCHDOG_S)
        # Set by systemd for the process that it started. If that is a wrapper of ours, signals and
        # restarts must still be about us. In a container the variable is not set: there our number
        # is another one than the manager's.
        self._wrapped = _number(environ.get("SYSTEMD_EXEC_PID", "")) not in (None, os.getpid())

    def ready(self, status: str = "") -> None:
        """Started, or done with a reload: the socket answers."""
        main_pid = (f"MAINPID={os.getpid()}",) if self._wrapped else ()
        self._send("READY=1", *main_pid, *_status(status))

    def reloading(self) -> None:
        """The configuration is read anew; `ready` says when that is done, or was refused."""
        # The time tells this answer from one to an earlier request: Type=notify-reload.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(text))

    def stopping(self, status: str = "", within_s: float = 0.0) -> None:
        """The way to the end began; `within_s`: as `extend`."""
        self._send("STOPPING=1", *_status(status), *_extension(within_s))

    def extend(self, seconds: float) -> None:
        """The start or stop under way may take this long from now, whatever the unit allows."""
        self._send(*_extension(seconds))

    def alive(self) -> None:
        """The main loop turns: the watchdog counts from zero again."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if self._address is None or not assignments:
            return
        # A text that came from outside may hold half of a character pair.
        message = "\n".join(assignments).encode("utf-8", "replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(self._patience_s)
                sock.sendto(message, self._address)
            self._patience_s = _SEND_TIMEOUT_S
        except OSError as exc:
            if isinstance(exc, (TimeoutError, socket.timeout)):
                self._patience_s = 0.0  # until it reads again nothing more is waited for
            logger.debug("the service manager was not told %s: %s", assignments[0], exc)


def _address(name: str) -> Optional[bytes]:
    """A path, or a name of the kernel's own that is written with "@". None: of no use to us."""
    if name.startswith("/"):
        return os.fsencode(name)
    if name.startswith("@") and len(name) > 1:
        return b"\0" + os.fsencode(name[1:])
    return None


def _number(text: str) -> Optional[int]:
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


def _status(text: str) -> tuple[str, ...]:
    line = _CONTROL.sub(" ", text).strip()
    if len(line) > _MAX_STATUS:
        line = line[: _MAX_STATUS - 1] + "…"
    return (f"STATUS={line}",) if line else ()


def _extension(seconds: float) -> tuple[str, ...]:
    return (f"EXTEND_TIMEOUT_USEC={int(seconds * _USEC)}",) if seconds > 0 else ()
