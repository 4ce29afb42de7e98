"""What another process is and whose it is: from /proc, or from ps(1) where there is none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.host import command

PROC = Path("/proc")
PROGRAMS = frozenset({b"ngrokd", b"ngrokd.py"})


@dataclass(frozen=True)
class Told:
    """What ps tells of one process. `words` of its command line, parted at white space."""

    uid: int
    words: tuple[bytes, ...]


def is_ngrokd(pid: int, proc: Path = PROC, run: command.Runner = command.run) -> bool:
    """Whether that process lives and is an ngrokd; one that nobody can tell of is respected."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it lives, as another user
    try:
        return _names_ngrokd((proc / str(pid) / "cmdline").read_bytes().split(b"\0"))
    except OSError:
        told = _ask(pid, proc, run)
    return told is None or _names_ngrokd(told.words)


def owner(pid: int, proc: Path = PROC, run: command.Runner = command.run) -> Optional[int]:
    """Its user; None: it has just ended, or that cannot be told."""
    try:
        return (proc / str(pid)).stat().st_uid
    except OSError:
        told = _ask(pid, proc, run)
    return None if told is None else told.uid


def parse(text: str) -> Optional[Told]:
    """The one line that ps prints: `    0 /usr/bin/python3 /usr/local/bin/ngrokd`."""
    uid, *words = text.split() or [""]
    if not uid.isascii() or not uid.isdigit():
        return None
    return Told(int(uid), tuple(word.encode("utf-8", "replace") for word in words))


def _ask(pid: int, proc: Path, run: command.Runner) -> Optional[Told]:
    """None: there is a /proc, which shows what may be seen; or ps knows no such process."""
    if (proc / "self").exists():
        return None
    try:
        return parse(run(("ps", "-ww", "-o", "uid=", "-o", "command=", "-p", str(pid))))
    except command.CommandError:
        return None


def _names_ngrokd(words: Sequence[bytes]) -> bool:
    """`ngrokd`, `python3 [-I] .../ngrokd`, `python3 -m ngrokd`; not `tail /var/log/ngrokd.log`."""
    first = words[0].rpartition(b"/")[2] if words else b""
    looked_at = words[:4] if b"python" in first.lower() else words[:1]
    return bool({word.rpartition(b"/")[2] for word in looked_at} & PROGRAMS)
