"""The pid file: one daemon at a time, and nobody else's file is ever taken for one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from lockfile.pidlockfile import PIDLockFile

from ngrokd.errors import HostError
from ngrokd.process import filelock, identity

logger = logging.getLogger(__name__)

MAX_BYTES = 32  # a pid and a line end

# More often than that in a row nobody's daemon ends just while we look at its file.
_MAX_ROUNDS = 10

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644
_NEW_FILE_MODE = 0o600  # until it is locked: who may read it could lock it before us

_HELD = frozenset({errno.EACCES, errno.EAGAIN})  # fcntl(2): it may say either


class PidFile(PIDLockFile):  # type: ignore[misc]  # lockfile has no type hints
    """python-daemon's lock file, held by a lock of the kernel instead of by its existence.

    The lock ends with its process, however that ends. So a file without one is stale, whatever
    stands in it: half a number, zeros after a power cut, a pid that another program has by now. Of
    two that start at once the kernel gives it to one. Owner: main thread, in the process that
    stays: the lock does not go through a fork, and ends if that process opens and closes the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._descriptor: Optional[int] = None

    def acquire(self, timeout: Optional[float] = None) -> None:
        """Never waits. Raises HostError: it is held, it is no pid file, or it cannot be written."""
        path = Path(self.path)
        try:
            _make_folder(path)
            for _ in range(_MAX_ROUNDS):
                descriptor = _open(path, os.O_RDWR | os.O_CREAT)
                if self._take(path, descriptor):
                    return
        except OSError as exc:
            raise HostError(
                f"pid file {path} cannot be written: {exc.strerror}; "
                "set server.pid_file or run as root"
            ) from exc
        except (SystemExit, KeyboardInterrupt):  # the file may be there, and not be ours yet
            with contextlib.suppress(HostError):  # it is another's
                self.break_lock()
            raise
        raise HostError(f"pid file {path}: another program removes it again and again")

    def release(self) -> None:
        """Removes the file, if it is still the one that was locked. Twice is harmless."""
        try:
            self._let_go()
        except (SystemExit, KeyboardInterrupt):  # one more signal
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # gone, or its folder is closed to us by now
            if _is_in_place(Path(self.path), self._descriptor):
                Path(self.path).unlink()
        os.close(self._descriptor)
        self._descriptor = None

    def is_locked(self) -> bool:
        """By this process or by another one."""
        return self._descriptor is not None or holder(self.path) is not None

    def i_am_locking(self) -> bool:
        """By this object."""
        return self._descriptor is not None

    def break_lock(self) -> None:
        """Removes a stale file. Raises HostError for one that is held."""
        remove_stale(self.path)

    def _take(self, path: Path, descriptor: int) -> bool:
        """Locks and writes it; False: it was replaced meanwhile. The descriptor is then closed."""
        try:
            _refuse_held(path, descriptor)
            if not _is_in_place(path, descriptor):
                os.close(descriptor)
                return False
            _write(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True


@contextlib.contextmanager
def held(pid_file: str) -> Iterator[None]:
    """The pid file is ours while inside. Raises HostError: a living holder, or not a pid file."""
    lock = PidFile(pid_file)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def holder(pid_file: str) -> Optional[int]:
    """The pid of the daemon that holds it; None: none does. Not for the process that holds it.

    0 where it is held by one that cannot be named: of another container, or just starting.
    """
    descriptor = _open_if_ours(Path(pid_file), os.O_RDONLY)
    if descriptor is None:
        return None
    try:
        return _holder(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(pid_file: str) -> bool:
    """Removes the file if no daemon holds it; False if there is none. Raises HostError.

    What is no pid file stays.
    """
    path = Path(pid_file)
    descriptor = _open_if_ours(path, os.O_RDWR)
    if descriptor is None:
        return False
    try:
        _refuse_held(path, descriptor)
        if _is_in_place(path, descriptor):
            path.unlink()
    except OSError as exc:
        raise HostError(
            f"pid file {path} cannot be removed: {exc.strerror}. Mend: rm {path}"
        ) from exc
    finally:
        os.close(descriptor)
    return True


def is_one(pid_file: str) -> bool:
    """Whether there is a pid file that we may read, and not something else."""
    descriptor = _open_if_ours(Path(pid_file), os.O_RDONLY)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def _make_folder(path: Path) -> None:
    """/var/run, or a folder in it, which is empty after every boot; a path of more is a mistake."""
    folder = Path(os.path.realpath(path.parent))  # a link to a folder that is not there, too
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        folder.mkdir()
        made = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)  # and no link put in its place
        os.fchmod(made, _FOLDER_MODE)  # whatever the umask
        os.close(made)


def _open_if_ours(path: Path, flags: int) -> Optional[int]:
    """None: there is no pid file, or we may not look into it."""
    try:
        return _open(path, flags)
    except (OSError, HostError) as exc:
        if not isinstance(exc, FileNotFoundError):
            logger.debug("%s is left as it is: %s", path, exc)
        return None


def _open(path: Path, flags: int) -> int:
    """A descriptor of a pid file. Raises OSError, and HostError: it is something else."""
    # Neither waits for a writer of a FIFO nor follows a link to somebody's file.
    flags |= os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags, _NEW_FILE_MODE)
    except OSError as exc:
        if exc.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        cause = "it is a link" if exc.errno == errno.ELOOP else "it is not a regular file"
        raise HostError(_not_ours(path, cause)) from exc
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HostError(_not_ours(path, "it is not a regular file"))
        if _number(descriptor) is None:
            raise HostError(_not_ours(path, "it holds something else than a process number"))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _number(descriptor: int) -> Optional[int]:
    """The pid in the file, 0 for an empty one; None: it holds something else."""
    content = os.pread(descriptor, MAX_BYTES + 1, 0)
    word = content.strip(b"\0 \r\n")  # NULs: what a power cut may leave of a new file
    if len(content) > MAX_BYTES or (word and not word.isdigit()):
        return None
    return int(word or 0)


def _write(path: Path, descriptor: int) -> None:
    """Empty for a moment, so that no reader takes a part of the old number for the new one."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        os.fchmod(descriptor, _FILE_MODE)  # whatever the umask
    except OSError:
        path.unlink()
        raise


def _refuse_held(path: Path, descriptor: int) -> None:
    """Locks it, or raises HostError naming who has."""
    for _ in range(_MAX_ROUNDS):
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as exc:
            if exc.errno not in _HELD:
                break  # a file system without locks: the living process itself must do
        pid = _holder(descriptor)
        if pid is not None:  # else it has ended in between
            raise HostError(_is_held(path, pid))
        if filelock.is_only_read(descriptor) and _is_in_place(path, descriptor):
            path.unlink()  # a new file takes its place
            return
    pid = _living(descriptor)
    if pid is not None:
        raise HostError(_is_held(path, pid))


def _is_held(path: Path, pid: int) -> str:
    unknown = "another ngrokd, just starting or of another container, holds it"
    who = f"ngrokd already runs with pid {pid}" if pid else unknown
    return f"{who} ({path}): stop it first"


def _holder(descriptor: int) -> Optional[int]:
    """The pid that has locked it for writing, 0 if it cannot be named; None: nobody has."""
    try:
        pid = filelock.writer(descriptor)
    except OSError:  # a file system without locks
        return _living(descriptor)
    if pid is None:
        return None
    return pid or _living(descriptor) or 0


def _living(descriptor: int) -> Optional[int]:
    """The pid in the file if that is an ngrokd, and another one than this."""
    pid = _number(descriptor)
    return pid if pid and pid != os.getpid() and identity.is_ngrokd(pid) else None


def _is_in_place(path: Path, descriptor: int) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _not_ours(path: Path, cause: str) -> str:
    return f"{path} cannot be the pid file ({cause}): remove it, or set server.pid_file"
