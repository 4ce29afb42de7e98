"""Writing over a file that cannot be replaced: a bind mount, or a file in a folder closed to us.

Bytes are changed from the first difference on, so a crash within the write leaves a file whose
parts are the old ones or the new. A `Log` that was begun before knows both, and lets the next start
mend it. If the kernel gives us the file alone (`lease.alone`), who opens it waits, and never sees
half; who has it open for reading already can, and keeps us from nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Protocol

from ngrokd.host import lease, remains

# Who looks a name up has the file open for less than a millisecond; nobody tells when it is closed.
# One after the other of them is waited for, but some read it all day.
_READERS_TRIES = 50
_READERS_S = 0.001

# No room can be reserved on this file system; the write itself will find out.
_CANNOT_RESERVE = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))


class Log(Protocol):
    """Remembers a write until it is done."""

    def begin(self, path: Path, old: bytes, new: bytes) -> None:
        """Before the first byte is changed."""

    def end(self) -> None:
        """The file is whole."""


class _NoLog:
    """Of a file that nobody misses."""

    def begin(self, path: Path, old: bytes, new: bytes) -> None:
        """Nothing is noted."""

    def end(self) -> None:
        """Nothing was."""


def write(
    path: Path,
    content: bytes,
    expected: Optional[bytes] = None,
    log: Optional[Log] = None,
    insist: bool = True,
) -> bool:
    """Writes and reads back. False: somebody else writes too, whose content stays.

    Room is reserved first, so a full disk is found before a byte is changed; if the write fails
    even so, the old content is put back. Not `insist`: only if nobody has it open for writing.
    Raises OSError.
    """
    log = log or _NoLog()
    try:
        for tries_left in range(_READERS_TRIES, -1, -1):
            if not insist and lease.is_being_written(path):
                return False
            with _opened(path) as descriptor, lease.alone(descriptor) as is_refused:
                if not is_refused or not tries_left:
                    if not _write_if_expected(descriptor, path, content, expected, log):
                        return False
                    break
            time.sleep(_READERS_S)
        # Once it is closed: by a lease that could not be given back we would wait for ourselves.
        is_whole = path.read_bytes() == content
    except BlockingIOError:  # somebody else has a lease of it
        return False
    log.end()
    return is_whole


def _write_if_expected(
    descriptor: int, path: Path, content: bytes, expected: Optional[bytes], log: Log
) -> bool:
    previous = _read(descriptor)
    if expected is not None and previous != expected:
        return False
    log.begin(path, previous, content)
    try:
        _reserve(descriptor, len(content))
        # A process that was stopped meanwhile has lost its lease, and others have written.
        if expected is not None and not _is_still(descriptor, previous, len(content)):
            _give_back_room(descriptor, previous, content)
            return False  # the log stays, and who mends next looks whether all is there
        _write(descriptor, content, _first_difference(previous, content))
    except OSError:
        _write(descriptor, previous, 0)  # if that fails, too, the log stays
        log.end()
        raise
    return True


def _give_back_room(descriptor: int, previous: bytes, content: bytes) -> None:
    """What others have appended then follows the lines again, not the zeros behind them."""
    without = remains.mended(_read(descriptor), previous, content)
    if without is not None:
        _write(descriptor, without, len(previous))


def _is_still(descriptor: int, previous: bytes, reserved: int) -> bool:
    """But for the room that was reserved."""
    current = _read(descriptor)
    longest = max(len(previous), reserved)
    return len(current) <= longest and current == previous.ljust(len(current), b"\0")


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
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
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
