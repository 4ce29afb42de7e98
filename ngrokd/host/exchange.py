"""Puts a new file in the place of one that others write too, and loses nothing that they wrote.

Comparing and then renaming leaves a moment in which another program's new content would be renamed
over. So the two files change places (`renameat2` with RENAME_EXCHANGE), and what came out is looked
at: if it is not what was expected, or somebody still has it open for writing, it goes back, and is
read anew. What remains:

- Where the file system or the kernel cannot exchange (macOS, some network file systems), the moment
  between compare and rename is there: some 50 microseconds.
- An edit that came in that moment is out of sight until it is back, as long again. If another
  edit is made without it within that time, the later one stays, and the other one is kept beside.
- A program that has the file open for writing the whole time is not waited for beyond HostsFile's
  rounds; what it then writes goes to the file that was taken out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.host import inplace, lease

_NO_REPLACE, _EXCHANGE = 1, 2  # renameat2(2)
_AT_FDCWD = -100

# EINVAL: a file system without it; ENOSYS: a kernel without it.
_CANNOT = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP))

Identity = tuple[int, int]

# More turns than that are a fight over the name that nobody can win.
_MAX_TURNS = 4


class ChangedMeanwhile(Exception):
    """The file is no longer what the new content was made from. Handler: read and make it again."""


class Stranded(OSError):
    """What another program wrote could not be put back. Handler: it is kept, and told."""

    def __init__(self, kept: Path, path: Path) -> None:
        text = f"it was written by several programs at once: what one wrote is kept as {kept}"
        super().__init__(errno.EAGAIN, text, str(path))


class CannotExchange(Exception):
    """Neither this system nor this file system can. Handler: rename."""


@dataclass(frozen=True)
class Shared:
    """How a file is replaced that other programs write, too."""

    # What the new content was made from; b"" also for a file that is missing, None: of no matter.
    expected: Optional[bytes]
    insist: bool = True  # also if somebody has it open for writing
    log: Optional[inplace.Log] = None  # knows what is being written in place


def put(new: Path, path: Path, content: bytes, shared: Optional[Shared] = None) -> None:
    """`new`, which has `content`, becomes `path`, and what stood there is gone.

    `shared`: raises ChangedMeanwhile if others write, whose content then stays. Raises OSError.
    After an exception `new` is to be removed, unless it is Stranded.
    """
    if shared is None or shared.expected is None:
        _replace(new, path)
    else:
        _put_if_expected(new, path, content, shared)


def _put_if_expected(new: Path, path: Path, content: bytes, shared: Shared) -> None:
    with _marked(path) as theirs:
        if not is_still(path, shared.expected) or _is_written(path, shared):
            raise ChangedMeanwhile
        if not _swap(new, path):
            return
        if not _is_as_expected(new, theirs, shared):
            _put_back(new, path, content)
            raise ChangedMeanwhile
        remove(new)


def take_out(path: Path, out: Path, shared: Shared) -> None:
    """Removes `path`, if it is what was expected; `out` is a name that nothing has. As `put`."""
    with _marked(path) as theirs:
        if not is_still(path, shared.expected) or _is_written(path, shared):
            raise ChangedMeanwhile
        path.rename(out)
        if _is_as_expected(out, theirs, shared):
            remove(out)
            return
        try:
            _put_first(out, path)
        except CannotExchange:
            out.rename(path)
        except (OSError, ChangedMeanwhile) as exc:
            raise Stranded(keep(out, path), path) from exc
        raise ChangedMeanwhile


def is_still(path: Path, expected: Optional[bytes]) -> bool:
    """A missing file is an empty one, as for whoever made the new content. Raises OSError.

    False also for what is no file (a link, say), and while a lease keeps us from opening it.
    """
    try:
        with _opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
            return stat.S_ISREG(os.fstat(descriptor).st_mode) and file.read() == expected
    except FileNotFoundError:
        return not expected
    except ChangedMeanwhile:
        return False


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """For reading. ChangedMeanwhile: it has become a link, or another ngrokd is writing it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EAGAIN):
            raise ChangedMeanwhile from exc
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _marked(path: Path) -> Iterator[Optional[tuple[int, ...]]]:
    """What stands at `path`: its state; None: nothing.

    It bears a lock meanwhile, so that nobody takes it for an orphan once it came out. If somebody
    else has the lock, that does as well.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(_opened(path))
        except FileNotFoundError:
            yield None
            return
        lease.lock(descriptor)
        yield _state(os.fstat(descriptor))


def _swap(new: Path, path: Path) -> bool:
    """False: there is nothing that came out."""
    try:
        try:
            _rename(new, path, _EXCHANGE)
        except FileNotFoundError:
            _put_first(new, path)
            return False
    except CannotExchange:
        _replace(new, path)
        return False
    return True


def _replace(new: Path, path: Path) -> None:
    """ChangedMeanwhile: somebody took the new file for a dead one's and removed it."""
    try:
        new.replace(path)
    except FileNotFoundError as exc:
        if path.parent.exists():
            raise ChangedMeanwhile from exc
        raise


def _put_first(new: Path, path: Path) -> None:
    """Where no file is."""
    try:
        _rename(new, path, _NO_REPLACE)
    except FileExistsError as exc:
        raise ChangedMeanwhile from exc
    except FileNotFoundError as exc:
        if path.parent.exists():
            raise ChangedMeanwhile from exc
        raise


def _is_as_expected(out: Path, state: Optional[tuple[int, ...]], shared: Shared) -> bool:
    """The state is looked at first, since that is quick: an edit is out of sight meanwhile."""
    try:
        same = _state(out.lstat()) == state and not _is_written(out, shared)
        return same and is_still(out, shared.expected)
    except OSError:
        return False  # what cannot be looked at goes back


def _is_written(path: Path, shared: Shared) -> bool:
    return not shared.insist and lease.is_being_written(path)


def _put_back(new: Path, path: Path, content: bytes) -> None:
    """Until what comes out is what went in before: anything else is newer, and belongs there."""
    last: Optional[tuple[int, ...]] = None  # ours
    try:
        for _ in range(_MAX_TURNS):
            put = _state(new.lstat())
            if not _swap(new, path) or (last is None and is_still(new, content)):
                return
            if _state(new.lstat()) == last:
                break  # an edit that was out of sight when somebody made another one
            last = put
    except (OSError, ChangedMeanwhile) as exc:
        raise Stranded(keep(new, path), path) from exc
    raise Stranded(keep(new, path), path)


def keep(new: Path, path: Path) -> Path:
    """Renames it to what is not taken for an orphan of `path`; the name that it has then."""
    kept = kept_name(path, os.urandom(4).hex())
    try:
        new.rename(kept)
    except OSError:
        return new
    return kept


def kept_name(path: Path, ending: str) -> Path:
    """Under which somebody's lines are kept beside `path`."""
    return path.with_name(f"{path.name}.ngrokd-kept-{ending}")


def remove(new: Path) -> None:
    """As far as possible."""
    with contextlib.suppress(OSError):  # as an orphan it harms nobody, and goes at the next start
        new.unlink()


def identity(path: Path) -> Optional[Identity]:
    """Which file it is, whatever it holds; None: there is none. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _state(found: os.stat_result) -> tuple[int, ...]:
    """It is another one once somebody else has written."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _rename(old: Path, new: Path, flags: int) -> None:
    """Raises OSError, and CannotExchange."""
    import ctypes  # only where something is written: 0.3 MB

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise CannotExchange
    words = (_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags)
    number = errno.EINTR
    while number == errno.EINTR:
        number = ctypes.get_errno() if call(*words) else 0
    if number == 0:
        return
    if number in _CANNOT:
        raise CannotExchange
    raise OSError(number, os.strerror(number), str(old), None, str(new))
