"""The pid file: one daemon at a time, and nobody else's file is ever taken for one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import lockfile
from daemon.pidfile import PIDLockFile

from ngrokd.errors import HostError

MAX_BYTES = 32  # a pid and a line end
PROGRAMS = frozenset({b"ngrokd", b"ngrokd.py"})


@contextlib.contextmanager
def held(pid_file: str) -> Iterator[None]:
    """The pid file is ours while inside. Raises HostError: a living holder, or not a pid file."""
    holder = _holder(Path(pid_file))
    if holder and holder != os.getpid() and is_ngrokd(holder):
        raise HostError(f"ngrokd already runs with pid {holder} ({pid_file}): stop it first")
    lock = PIDLockFile(pid_file)
    try:
        if holder is not None:
            lock.break_lock()  # its process is gone, or the pid is another program's by now
        lock.acquire(timeout=-1)
    except lockfile.AlreadyLocked as exc:
        raise HostError(f"another ngrokd is just starting: {pid_file} was taken") from exc
    except (OSError, lockfile.LockFailed) as exc:
        raise HostError(
            f"pid file {pid_file} cannot be written: {exc}; set server.pid_file or run as root"
        ) from exc
    try:
        yield
    finally:
        with contextlib.suppress(lockfile.NotLocked, lockfile.NotMyLock, OSError):
            lock.release()


def _holder(path: Path) -> Optional[int]:
    """The pid in the file, 0 for an empty one, None for none. HostError: it is something else."""
    try:
        # Neither waits for a writer of a FIFO nor follows a link to somebody's file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        cause = "it is a link" if exc.errno == errno.ELOOP else exc.strerror
        raise HostError(_not_ours(path, str(cause))) from exc
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HostError(_not_ours(path, "it is not a regular file"))
        content = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    word = content.strip(b"\0 \r\n")  # NULs: what a crash may leave of a new file
    if len(content) > MAX_BYTES or (word and not word.isdigit()):
        raise HostError(_not_ours(path, "it holds something else than a process number"))
    return int(word or 0)


def _not_ours(path: Path, cause: str) -> str:
    return f"{path} cannot be the pid file ({cause}): remove it, or set server.pid_file"


def is_ngrokd(pid: int) -> bool:
    """Whether that process lives and is an ngrokd."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it lives, as another user
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True  # no /proc here: respect a living process
    # `ngrokd`, `python3 [-I] .../ngrokd`, `python3 -m ngrokd`; not `tail -f /var/log/ngrokd.log`.
    runs_python = b"python" in words[0].rpartition(b"/")[2]
    names = {word.rpartition(b"/")[2] for word in (words[:4] if runs_python else words[:1])}
    return bool(names & PROGRAMS)
