"""Who has locked a file: what fcntl(2) answers to F_GETLK."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Optional

# struct flock: type, whence, start, length, pid; room for those that are longer.
_FLOCK = struct.Struct("hhqqi32x")
# That of BSD kernels, which number the kinds of locks otherwise: start, length, pid, type, whence.
_FLOCK_OF_BSD = struct.Struct("qqihh")
_WRITE_LOCK_OF_BSD = 3
IS_BSD = fcntl.F_WRLCK == _WRITE_LOCK_OF_BSD


def writer(descriptor: int) -> Optional[int]:
    """The pid that has locked it for writing, 0 if that cannot be told; None: nobody has.

    Raises OSError: a file system without locks.
    """
    kind, pid = _lock(descriptor)
    return max(pid, 0) if kind == fcntl.F_WRLCK else None


def is_only_read(descriptor: int) -> bool:
    """Locked by somebody who may only read it. Any user can, to keep root's daemon from it."""
    try:
        return _lock(descriptor)[0] == fcntl.F_RDLCK
    except OSError:  # it cannot be told here, so it may be a daemon's
        return False


def question(kind: int, bsd: bool) -> bytes:
    """A `struct flock` that asks who keeps us from such a lock of the whole file."""
    if bsd:
        return _FLOCK_OF_BSD.pack(0, 0, 0, kind, os.SEEK_SET)
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)


def answer(raw: bytes, bsd: bool) -> tuple[int, int]:
    """The kind of the lock and the pid, in the `struct flock` that came back."""
    if bsd:
        _, _, pid, kind, _ = _FLOCK_OF_BSD.unpack(raw)
    else:
        kind, _, _, _, pid = _FLOCK.unpack(raw)
    return kind, pid


def _lock(descriptor: int) -> tuple[int, int]:
    """What keeps this process from locking it for writing: the kind of that lock, and whose."""
    asked = question(fcntl.F_WRLCK, IS_BSD)
    return answer(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked), IS_BSD)
