"""Who else has a file open or locked, as the kernel tells it: fcntl(2), "Leases", and flock(2).

A lease is given only while no other program has the file open in a way that conflicts with it.
Linux gives it for a file of our own user, or with CAP_LEASE, which the daemon gives up: of a hosts
file that belongs to somebody else nothing is known, nor is it elsewhere. What others write is then
only seen by comparing. A lease is a courtesy to others, and whoever refuses it keeps nobody from
writing for long.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_IN_USE = frozenset((errno.EAGAIN, errno.EBUSY))


def lock(descriptor: int) -> bool:
    """Marks a file as one that is in use, until it is closed; False: somebody else has done so.

    Anybody can who may read it: nothing may depend on it. True also where there are no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        return exc.errno not in _IN_USE
    return True


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
    with _taken(descriptor, fcntl.F_RDLCK) as lease:
        # One that we have no longer: somebody waits for its end, to write.
        return lease is _Lease.REFUSED or (lease is _Lease.OURS and not _is_left_to_us(descriptor))


def _is_left_to_us(descriptor: int) -> bool:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    except OSError:
        return True


class _Lease(enum.Enum):
    """What the kernel says to whoever asks for a lease."""

    OURS = "ours"  # nobody else is in the way
    REFUSED = "refused"  # somebody is
    UNKNOWN = "unknown"  # there are no leases here


@contextlib.contextmanager
def alone(descriptor: int) -> Iterator[bool]:
    """Whoever opens the file meanwhile waits for the end; True: no, somebody else has it open.

    They wait for moments, but 45 s if this process is stopped. False also where leases are not to
    be had, but then nobody waits.
    """
    with _taken(descriptor, fcntl.F_WRLCK) as lease:
        yield lease is _Lease.REFUSED


@contextlib.contextmanager
def _taken(descriptor: int, kind: int) -> Iterator[_Lease]:
    if not hasattr(fcntl, "F_SETLEASE"):
        yield _Lease.UNKNOWN
        return
    try:
        # Who opens the file has us sent a signal: SIGIO would end the process, SIGURG does not.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, kind)
    except OSError as exc:
        yield _Lease.REFUSED if exc.errno in _IN_USE else _Lease.UNKNOWN
        return
    try:
        yield _Lease.OURS
    finally:
        with contextlib.suppress(OSError):  # it ends with the descriptor, too
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
