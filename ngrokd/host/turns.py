"""One ngrokd at a time writes a hosts file.

A lock on the hosts file itself would be anybody's who may read it; this one is on a file that other
users cannot reach (locks.py). Where there is no place for such a file, and between containers with
a /run of their own, comparing before and after the write has to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ngrokd.errors import HostError
from ngrokd.host import locks
from ngrokd.host.locks import Taken

logger = logging.getLogger(__name__)

# A write of 200,000 lines takes 0.1 s. Who takes longer is stopped, or has a disk that hangs.
WAIT_S = 1.0

_BUSY = (
    "another ngrokd (pid {pid}) has been writing {path} for more than {wait_s:g} s: it is tried "
    "again. Mend: if that one is stopped or hangs (`ps -eo pid,stat,wchan,args`), continue or end "
    "it"
)


@contextlib.contextmanager
def taken(
    path: Path, wait_s: float = WAIT_S, folder: Callable[[], Path] = locks.folder
) -> Iterator[None]:
    """No other ngrokd writes `path`, a real path, meanwhile. Raises HostError: one does not end.

    `folder`: where the locks are; raises HostError where there is no place for them.
    """
    lock = None
    try:
        lock = locks.take(folder(), name(path), wait_s)
    except Taken as exc:
        raise HostError(_BUSY.format(pid=exc.pid or "?", path=path, wait_s=wait_s)) from exc
    except (HostError, OSError) as exc:
        logger.debug("%s is written without a lock: %s", path, exc)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def name(path: Path) -> str:
    """The same for one file under two paths of its folder."""
    place = str(path)
    with contextlib.suppress(OSError):
        folder = path.parent.stat()
        place = f"{folder.st_dev}:{folder.st_ino}/{path.name}"
    return f"writing-{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}"
