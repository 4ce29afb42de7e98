"""Waiting, with a bound, for the end of a process that is not our child."""

from __future__ import annotations

import os
import select
import time

POLL_S = 0.05  # where the kernel cannot tell


def wait_for_end(pid: int, timeout_s: float) -> bool:
    """True: it has ended. A zombie has."""
    until = time.monotonic() + timeout_s
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        except OSError:
            return _polled(pid, until)  # a kernel before 5.3
        try:
            readable, _, _ = select.select([descriptor], [], [], timeout_s)
            return bool(readable)
        finally:
            os.close(descriptor)
    return _polled(pid, until)


def _polled(pid: int, until: float) -> bool:
    while _lives(pid):
        if time.monotonic() >= until:
            return False
        select.select([], [], [], POLL_S)
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
