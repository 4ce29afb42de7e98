"""Who has locked a file: what fcntl(2) answers to F_GETLK."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Optional

# struct flock of Linux: type, whence, start, length, pid. The zeros are room for those of other
# systems, which are laid out otherwise: the pid is then not known.
_FLOCK = struct.Struct("hhqqi32x")


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


def _lock(descriptor: int) -> tuple[int, int]:
    """What keeps this process from locking it for writing: the kind of that lock, and whose."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    return kind, pid
