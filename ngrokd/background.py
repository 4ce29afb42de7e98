"""Becoming a background process, and being the only one: double fork and pid file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import lockfile
from daemon import DaemonContext
from daemon.pidfile import PIDLockFile

from ngrokd.errors import HostError, NgrokdError

logger = logging.getLogger(__name__)

UMASK = 0o022
UP = b"up"

Serve = Callable[[Callable[[], None]], int]  # takes what to call once up; returns the exit status


def run_in_background(pid_file: str, serve: Serve) -> int:
    """Forks; returns 0 once the daemon is up, else 1 after printing why it is not.

    The caller must not have made a thread, socket, selector or log file: the fork loses threads and
    `DaemonContext` closes descriptors.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become_daemon(pid_file, serve, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        answer = told.read()
    os.waitpid(child, 0)
    if answer == UP:
        return 0
    sys.stderr.write(f"ngrokd: {answer.decode() or 'the daemon ended while starting'}\n")
    return 1


def _become_daemon(pid_file: str, serve: Serve, writing: int) -> None:
    """In the child: never returns, so that nothing of the caller runs twice."""
    status = 1

    def up() -> None:
        os.write(writing, UP)
        os.close(writing)

    try:
        context = DaemonContext(
            detach_process=True, umask=UMASK, files_preserve=[writing], signal_map={}
        )
        with context, held(pid_file):
            status = serve(up)
    except NgrokdError as exc:
        logger.error("%s", exc)
        _tell(writing, str(exc))
    except Exception as exc:
        logger.critical("ngrokd ends by a fault of its own", exc_info=exc)
        _tell(writing, f"a fault of ngrokd itself: {exc!r}")
    finally:
        logging.shutdown()
        os._exit(status)


def _tell(writing: int, reason: str) -> None:
    """To the parent, which has gone once the daemon is up; then only the log has it."""
    with contextlib.suppress(OSError):
        os.write(writing, reason.encode())


@contextlib.contextmanager
def held(pid_file: str) -> Iterator[None]:
    """The pid file is ours while inside. Raises HostError naming a living holder."""
    lock = PIDLockFile(pid_file)
    holder = lock.read_pid() if Path(pid_file).exists() else None
    if holder is not None and is_ngrokd(holder):
        raise HostError(f"ngrokd already runs with pid {holder} ({pid_file}): stop it first")
    try:
        if Path(pid_file).exists():
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


def is_ngrokd(pid: int) -> bool:
    """Whether that process lives and is an ngrokd."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, as another user
    try:
        return b"ngrokd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # no /proc here: respect a living process
