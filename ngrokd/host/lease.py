"""Whether anybody else has a file open, as the kernel tells it: fcntl(2), "Leases".

A lease is given only while no other program has the file open in a way that conflicts with it.
Linux gives it for a file of our own user, or with CAP_LEASE; elsewhere nothing is known.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_IN_USE = frozenset((errno.EAGAIN, errno.EBUSY))


def is_being_written(path: Path) -> bool:
    """Somebody has it open for writing. False also where that cannot be known."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # whoever reads it next says what is wrong with it
    try:
        return is_open_for_writing(descriptor)
    finally:
        os.close(descriptor)


def is_open_for_writing(descriptor: int) -> bool:
    """The same, of a file that we have open for reading only."""
    with _taken(descriptor, getattr(fcntl, "F_RDLCK", 0)) as free:
        return not free


@contextlib.contextmanager
def alone(descriptor: int) -> Iterator[bool]:
    """True: nobody else has the file open, and whoever opens it meanwhile waits for the end.

    They wait for moments, but 45 s if this process is stopped. True also where leases are not to
    be had, but then nobody waits.
    """
    with _taken(descriptor, getattr(fcntl, "F_WRLCK", 0)) as free:
        yield free


@contextlib.contextmanager
def _taken(descriptor: int, kind: int) -> Iterator[bool]:
    if not hasattr(fcntl, "F_SETLEASE"):
        yield True
        return
    try:
        # Who opens the file has us sent a signal: SIGIO would end the process, SIGURG does not.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, kind)
    except OSError as exc:
        yield exc.errno not in _IN_USE
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):  # it ends with the descriptor, too
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
