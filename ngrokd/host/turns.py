"""One ngrokd at a time writes a hosts file.

The turn is a claim (claims.py), held while a write lasts. A lock on the hosts file itself would be
anybody's who may read it. Any user can take the name of a claim, too, but is not believed: only
root's processes and our own user's are waited for. Without turns, as on macOS and between
containers with networks of their own, comparing before and after the write has to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.host import claims

# A write of 200,000 lines takes 0.1 s. Who takes longer is stopped, or has a disk that hangs.
_WAIT_S = 1.0

# Between `bind` and `listen` its holder cannot be asked. One who never listens is not believed.
_UNKNOWN_TRIES = 20
_UNKNOWN_S = 0.001


@contextlib.contextmanager
def taken(path: Path, wait_s: float = _WAIT_S) -> Iterator[None]:
    """No other ngrokd writes `path` meanwhile. Raises HostError if one does not come to an end."""
    turn = _turn(path, wait_s)
    try:
        yield
    finally:
        if turn is not None:
            turn.close()


def _turn(path: Path, wait_s: float) -> Optional[socket.socket]:
    """None: the name is a stranger's, and nobody's turn."""
    name = address(path)
    end = time.monotonic() + wait_s
    unknown = 0
    while unknown < _UNKNOWN_TRIES:
        turn = claims.claimed(name)
        if turn is not None:
            return turn
        with claims.asked(name) as question:
            pid, uid = claims.credentials(question)
            if uid == claims.NOBODY:
                unknown += 1
                time.sleep(_UNKNOWN_S)
            elif uid not in (0, os.geteuid()):
                return None
            elif not _is_over(question, end - time.monotonic()):
                raise HostError(_BUSY.format(who=_who(pid), path=path, wait_s=wait_s))
    return None


_BUSY = (
    "{who} has been writing {path} for more than {wait_s:g} s: it is tried again. Mend: if that "
    "one is stopped or hangs (`ps -o pid,stat,wchan -C ngrokd`), continue or end it"
)


def _who(pid: int) -> str:
    return f"another ngrokd (pid {pid})" if pid else "an ngrokd of another container"


def _is_over(question: socket.socket, within_s: float) -> bool:
    """The holder has let go, or its process has ended."""
    poll = select.poll()
    poll.register(question, 0)  # POLLHUP comes unasked
    return within_s > 0 and bool(poll.poll(within_s * 1000))


def address(path: Path) -> str:
    """The same for one file under two paths of its folder."""
    place = str(path)
    with contextlib.suppress(OSError):
        folder = path.parent.stat()
        place = f"{folder.st_dev}:{folder.st_ino}/{path.name}"
    return f"\0ngrokd:writing:{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}"
