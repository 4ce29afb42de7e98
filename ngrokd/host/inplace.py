"""Writing over a file that cannot be replaced: a bind mount, or a file in a folder closed to us.

Bytes are changed from the first difference on, so a crash within the write leaves a file whose
parts are the old ones or the new. A `Log` that was begun before knows both, and lets the next start
mend it. While the kernel gives us the file alone (`lease.alone`), readers wait, and never see half.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Protocol

from ngrokd.host import lease

# No room can be reserved on this file system; the write itself will find out.
_CANNOT_RESERVE = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))


class Log(Protocol):
    """Remembers a write until it is done."""

    def begin(self, path: Path, old: bytes, new: bytes) -> None:
        """Before the first byte is changed."""

    def end(self) -> None:
        """The file is whole."""


def write(
    path: Path,
    content: bytes,
    expected: Optional[bytes] = None,
    log: Optional[Log] = None,
    insist: bool = True,
) -> bool:
    """Writes and reads back. False: somebody else writes too (before: nothing was changed).

    Room is reserved first, so a full disk is found before a byte is changed; if the write fails
    even so, the old content is put back. Not `insist`: only if nobody else has the file open.
    Raises OSError.
    """
    with _opened(path) as descriptor, lease.alone(descriptor) as is_alone:
        if not (is_alone and lease.lock(descriptor)) and not insist:
            return False
        previous = _read(descriptor)
        if expected is not None and previous != expected:
            return False
        if log is not None:
            log.begin(path, previous, content)
        try:
            _reserve(descriptor, len(content))
            _write(descriptor, content, _first_difference(previous, content))
        except OSError:
            _write(descriptor, previous, 0)  # if that fails, too, the log stays
            if log is not None:
                log.end()
            raise
    # Once it is closed: by a lease that could not be given back we would wait for ourselves.
    is_whole = path.read_bytes() == content
    if log is not None:
        log.end()
    return is_whole


def _first_difference(old: bytes, new: bytes) -> int:
    """The length of what both begin with."""
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


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


def _write(descriptor: int, content: bytes, start: int) -> None:
    view, position = memoryview(content), start
    while position < len(content):
        position += os.pwrite(descriptor, view[position:], position)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)
