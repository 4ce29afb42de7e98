"""One ngrokd at a time writes a hosts file.

The turn is a lock of our own (locks.py), held while a write lasts. A lock on the hosts file itself
would be anybody's who may read it. Without a place for locks, and between containers, comparing
before and after the write has to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.host import locks
from ngrokd.host.locks import Lock, Taken

logger = logging.getLogger(__name__)

# A write of 200,000 lines takes 0.1 s. Who takes longer is stopped, or has a disk that hangs.
_WAIT_S = 1.0


@contextlib.contextmanager
def taken(path: Path, wait_s: float = _WAIT_S) -> Iterator[None]:
    """No other ngrokd writes `path` meanwhile. Raises HostError if one does not come to an end."""
    turn = _turn(path, wait_s)
    try:
        yield
    finally:
        if turn is not None:
            turn.release()


def _turn(path: Path, wait_s: float) -> Optional[Lock]:
    """None: there is no place for locks here."""
    try:
        return locks.take(locks.folder(), name(path), wait_s)
    except Taken as exc:
        who = f"another ngrokd (pid {exc.pid})" if exc.is_near else "an ngrokd of another container"
        raise HostError(
            f"{who} has been writing {path} for more than {wait_s:g} s: it is tried again. Mend: "
            "if that one is stopped or hangs (`ps -o pid,stat,wchan -C ngrokd`), continue or end it"
        ) from exc
    except (HostError, OSError) as exc:
        logger.debug("%s is written without a turn: %s", path, exc)
        return None


def name(path: Path) -> str:
    """The same for one file under two paths of its folder."""
    place = str(path)
    with contextlib.suppress(OSError):
        folder = path.parent.stat()
        place = f"{folder.st_dev}:{folder.st_ino}/{path.name}"
    return f"writing-{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}"
