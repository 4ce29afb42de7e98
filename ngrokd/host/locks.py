"""Files that one process at a time can lock, where other users can neither make nor lock them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

from ngrokd.errors import HostError
from ngrokd.host import files

# A dead daemon's command, forked and about to be run, has its locks until then.
_DYING_S = 1.0
_PAUSE_S = 0.02  # flock(2) cannot be waited for with a bound

# More often than that in a row nobody removes the file just while it is opened.
_MAX_ROUNDS = 100

_MAX_TEXT = 64
_IN_USE = frozenset((errno.EACCES, errno.EAGAIN))


class Taken(HostError):
    """Another process has it. Handler: name it.

    `pid`: 0 where it cannot be named; `is_own`: it is this process itself.
    """

    def __init__(self, pid: int, is_near: bool) -> None:
        super().__init__(f"locked by pid {pid}")
        self.pid = pid
        self.is_near = is_near  # not of another container
        self.is_own = is_near and pid == os.getpid()


class Lock:
    """A file that is locked until `release`, or until this process ends, however it ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        # Also where it is dropped: a descriptor alone would keep it until the process ends.
        self._end = weakref.finalize(self, _let_go, path, descriptor)
        self._end.atexit = False  # the kernel does that, and of a fork the file is not ours

    def release(self) -> None:
        """Leaves no file behind, and no folder that has none. Twice is harmless."""
        self._end()


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this user's locks are, made if it is not there.

    Raises HostError: there is no place in which others could not stand in our way.
    """
    faults = []
    for path in _places(environ):
        fault = _fault_of(path)
        if not fault:
            return path
        faults.append(f"{path}: {fault}")
    raise HostError(f"no folder for its locks ({'; '.join(faults)})")


def take(place: Path, name: str, patience_s: float = 0.0) -> Lock:
    """Waits so long for who has it. Raises Taken, and OSError."""
    waited = 0.0
    while True:
        try:
            return _take(place, name)
        except Taken as exc:
            dying = exc.is_near and exc.pid and not files.is_running(exc.pid)
            if waited >= (max(patience_s, _DYING_S) if dying else patience_s):
                raise
        time.sleep(_PAUSE_S)
        waited += _PAUSE_S


def namespace(kind: str) -> str:
    """Tells this process's namespace from others; "0" where there are none."""
    try:
        return str(Path("/proc/self/ns", kind).stat().st_ino)
    except OSError:
        return "0"


def _let_go(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):  # what stays there is stale, and harms nobody
        path.unlink()
    os.close(descriptor)
    with contextlib.suppress(OSError):  # others have theirs in it
        path.parent.rmdir()


def _places(environ: Mapping[str, str]) -> list[Path]:
    uid = os.geteuid()
    # Not tempfile.gettempdir(): it writes to try folders out, and raises where all are read-only.
    temporary, own = environ.get("TMPDIR", ""), environ.get("XDG_RUNTIME_DIR", "")
    last = Path(temporary if temporary.startswith("/") else "/tmp") / f"ngrokd-{uid}"
    if uid == 0:
        run = Path("/run")
        return [(run if run.is_dir() else Path("/var/run")) / "ngrokd", last]
    return [Path(own) / "ngrokd", last] if own.startswith("/") else [last]


def _fault_of(path: Path) -> str:
    """Makes it; "": nobody else can make anything in it, and we can."""
    try:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return "is no folder"
        if found.st_uid != os.geteuid():
            return f"belongs to another user ({found.st_uid})"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "can be written by other users"
        if not os.access(path, os.W_OK | os.X_OK):
            return "cannot be written"
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def _take(place: Path, name: str) -> Lock:
    path = place / name
    for _ in range(_MAX_ROUNDS):
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        try:
            descriptor = _open(path)
        except FileNotFoundError:  # another one's end took the folder away
            continue
        try:
            if _is_locked(path, descriptor):
                return Lock(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_locked(path: Path, descriptor: int) -> bool:
    """By us, with who we are in it; False: it was removed meanwhile. Raises Taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in _IN_USE:
            raise
        raise _holder(os.pread(descriptor, _MAX_TEXT, 0)) from exc
    ours = os.fstat(descriptor)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {namespace('pid')}\n".encode(), 0)
    return True


def _holder(text: bytes) -> Taken:
    words = text.decode("ascii", "replace").split()
    if len(words) != 2 or not words[0].isdecimal():  # just now locked
        return Taken(0, is_near=True)
    return Taken(int(words[0]), is_near=words[1] == namespace("pid"))
