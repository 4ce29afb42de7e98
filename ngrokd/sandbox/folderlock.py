"""One sandbox on one folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ngrokd.errors import HostError, StateError

LOCK_FILE = "sandbox.lock"
MAX_PID_BYTES = 20


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder is ours while inside. Raises HostError naming who has it.

    The file stays: if it were removed, two could hold a lock on two files of that name.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(folder / LOCK_FILE, flags, 0o600)
    except OSError as exc:
        raise StateError(f"{folder / LOCK_FILE} cannot be opened: {exc.strerror}") from exc
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as exc:
        pid = os.pread(handle, MAX_PID_BYTES, 0).decode("ascii", "replace").strip()
        raise HostError(
            f"another sandbox runs on {folder} (pid {pid}): end it, or choose another folder"
        ) from exc
    except OSError as exc:
        raise StateError(f"{folder / LOCK_FILE} cannot be locked: {exc.strerror}") from exc
