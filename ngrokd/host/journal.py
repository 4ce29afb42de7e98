"""What is being written in place, kept beside the state until it is done.

A write in place that is cut short (a kill, a power cut, a disk that fails) leaves a file that is
neither the old one nor the new. Who finds this journal then puts the old one back; but only if it
is for certain such a half (remains.py), of the file that this configuration is about, and if nobody
else can have written the journal. In doubt, and if lines are missing, it is kept under another
name: it may be the only copy of somebody's lines.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.errors import StateError
from ngrokd.host import files, inplace, remains, turns
from ngrokd.host.exchange import ChangedMeanwhile

logger = logging.getLogger(__name__)

# A want that passes: what is read a moment later is the same.
_PASSING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR))

# Two copies of a block list of a million lines.
_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """A write: what the file had and was to have."""

    path: str
    old: bytes
    new: bytes


def encode(entry: Entry) -> bytes:
    """A line of JSON, then the old content, then the new."""
    head = {"path": entry.path, "old": len(entry.old), "new": len(entry.new)}
    return json.dumps(head).encode() + b"\n" + entry.old + entry.new


def decode(content: bytes) -> Optional[Entry]:
    """None: it is no journal of ours."""
    head, _, body = content.partition(b"\n")
    try:
        found = json.loads(head)
        path, old, new = found["path"], found["old"], found["new"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(path, str) or type(old) is not int or type(new) is not int:
        return None
    if old < 0 or new < 0 or old + new != len(body):
        return None
    return Entry(path, body[:old], body[old:])


def place(state_folder: Path, path: Path) -> Path:
    """Where the journal of the hosts file `path` is."""
    return state_folder / f"{path.name}.ngrokd.journal"


class _Unusable(Exception):
    """Nothing can be mended by this journal. Handler: it is kept."""

    def __init__(self, why: str, of: str = "") -> None:
        super().__init__(why)
        self.of = of  # the file that it is of, if that is another one


class Journal:
    """A file of the state folder. Owner: main."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.is_open = True  # until `mend` has looked: a run before may have left one
        self._is_in_the_way = False  # one that must be kept, and cannot be renamed

    def begin(self, path: Path, old: bytes, new: bytes) -> None:
        """Without room for it the write goes on all the same, and cannot be mended."""
        if self._is_in_the_way:
            return
        self.is_open = True
        try:
            files.write_atomic(self._file, encode(Entry(str(path), old, new)))
        except StateError as exc:
            logger.info("%s is written in place without a journal: %s", path, exc)

    def end(self) -> None:
        """The file is whole: what stays of the journal is not taken for a half of it."""
        if not self._is_in_the_way:
            with contextlib.suppress(OSError):
                self._file.unlink()
                files.sync_folder(self._file.parent)  # a power cut does not bring it back
        self.is_open = False

    def mend(self, path: Path) -> bool:
        """Puts back what a write of `path`, a real path, left half done; True if there was one.

        Raises OSError, ChangedMeanwhile and HostError: it cannot be put back now.
        """
        files.remove_orphans(self._file)
        try:
            entry = self._entry(path)
            mended = entry is not None and _mend(path, entry)
        except _Unusable as exc:
            self._keep(exc.of or str(path), str(exc))
            return False
        if entry is not None:
            self.end()
        self.is_open = False
        return mended

    def _entry(self, path: Path) -> Optional[Entry]:
        """None: there is no journal. Raises _Unusable, and OSError for what passes."""
        if not os.access(self._file.parent, os.X_OK):
            return None  # whoever may not enter the folder has left nothing there
        try:
            if not self._is_ours():
                raise _Unusable("another user can have written it: believe only what you know")
            entry = decode(files.read_regular(self._file, _MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as exc:
            raise _Unusable("it is too large") from exc
        except OSError as exc:
            if exc.errno in _PASSING:
                raise
            raise _Unusable(f"it cannot be read ({exc.strerror})") from exc
        if entry is None:
            raise _Unusable("it is damaged")
        if entry.path != str(path):
            raise _Unusable(f"net.hosts_file is {path} now", ascii(entry.path))
        return entry

    def _is_ours(self) -> bool:
        """Whoever could put one there could have root write any content."""
        users = (0, os.geteuid())
        folder, found = self._file.parent.stat(), self._file.lstat()
        is_shut = folder.st_uid in users and not folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        return is_shut and found.st_uid in users and stat.S_ISREG(found.st_mode)

    def _keep(self, path: str, why: str) -> None:
        """Once: it is no journal any more."""
        kept = self._file.with_name(f"{self._file.name}.kept-{os.urandom(4).hex()}")
        self.is_open = False
        try:
            self._file.rename(kept)
            files.sync_folder(kept.parent)
        except FileNotFoundError:
            return
        except OSError as exc:
            self._is_in_the_way = True
            logger.warning(
                "%s is of no use (%s), stays (%s), and keeps what is written in place from being "
                "noted. Mend: move it away", self._file, why, exc.strerror,
            )  # fmt: skip
            return
        logger.warning(
            "%s may lack lines: a write of it was cut short, and is not mended by its journal: "
            "%s. Mend: compare it with what it had before, which is in %s from line 2 on, and add "
            "what is missing", path, why, kept,
        )  # fmt: skip


def _mend(path: Path, entry: Entry) -> bool:
    """False: it is whole. Raises _Unusable, OSError, ChangedMeanwhile and HostError."""
    try:
        current = files.read_regular(path, _MAX_BYTES)
    except FileNotFoundError as exc:
        raise _Unusable("the file is missing") from exc
    except ValueError as exc:
        raise _Unusable("the file is too large") from exc
    mended = remains.mended(current, entry.old, entry.new)
    if mended is not None:
        with turns.taken(path):
            if not inplace.write(path, mended, current):
                raise ChangedMeanwhile
        return True
    if current != entry.new and remains.is_missing_lines(current, entry.old):
        raise _Unusable("the file was changed since")
    return False
