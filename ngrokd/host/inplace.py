"""Writing over a file that cannot be replaced: a bind mount, or a file in a folder closed to us."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

# No room can be reserved on this file system; the write itself will find out.
_CANNOT_RESERVE = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))


def write(path: Path, content: bytes, expected: Optional[bytes] = None) -> bool:
    """Writes and reads back. False: somebody else writes too (before: nothing was changed).

    Room is reserved first, so a full disk is found before a byte is changed; if the write fails
    even so, the old content is put back. Raises OSError.
    """
    with _opened(path) as descriptor:
        previous = _read(descriptor)
        if expected is not None and previous != expected:
            return False
        try:
            _reserve(descriptor, len(content))
            _write(descriptor, content)
        except OSError:
            _write(descriptor, previous)
            raise
    return path.read_bytes() == content


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    parts = []
    position = 0
    while part := os.pread(descriptor, max(size - position, 65536), position):
        parts.append(part)
        position += len(part)
    return b"".join(parts)


def _reserve(descriptor: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate") or size <= os.fstat(descriptor).st_size:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as exc:
        if exc.errno not in _CANNOT_RESERVE:
            raise


def _write(descriptor: int, content: bytes) -> None:
    position = 0
    while position < len(content):
        position += os.pwrite(descriptor, content[position:], position)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)
