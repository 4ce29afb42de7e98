"""What is being written in place, kept beside the state until it is done.

A write in place that is cut short (a kill, a power cut, a disk that fails) leaves a file that is
neither the old one nor the new. Who finds this journal then puts the old one back; but only over a
file that is made of parts of the two, since anything else was written by somebody afterwards.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.errors import StateError
from ngrokd.host import files, inplace

logger = logging.getLogger(__name__)

# What a disk writes as a whole; a kill stops between pages, which are multiples of it.
_SECTOR_BYTES = 512

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


def is_torn(current: bytes, entry: Entry) -> bool:
    """It is made of sectors of the old and the new content, and is neither of them."""
    old, new = entry.old, entry.new
    if current in (old, new):
        return False
    longest = max(len(old), len(new))
    if not min(len(old), len(new)) <= len(current) <= longest:
        return False
    # Room is reserved before the first byte, which lengthens the file by zeros.
    padded = (old.ljust(longest, b"\0"), new.ljust(longest, b"\0"))
    for start in range(0, len(current), _SECTOR_BYTES):
        sector = current[start : start + _SECTOR_BYTES]
        if all(sector != each[start : start + len(sector)] for each in padded):
            return False
    return True


class Journal:
    """A file of the state folder. Owner: main."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.is_open = True  # until `mend` has looked: a run before may have left one

    def begin(self, path: Path, old: bytes, new: bytes) -> None:
        """Without room for it the write goes on all the same, and cannot be mended."""
        self.is_open = True
        try:
            files.write_atomic(self._file, encode(Entry(str(path), old, new)))
        except StateError as exc:
            logger.info("%s is written in place without a journal: %s", path, exc)

    def end(self) -> None:
        """The file is whole: what stays of the journal is not taken for a half of it."""
        with contextlib.suppress(OSError):
            self._file.unlink()
        self.is_open = False

    def mend(self) -> str:
        """Puts back what a write left half done; which file that was, "" for none.

        Raises OSError: it cannot be put back now.
        """
        files.remove_orphans(self._file)
        entry = self._entry()
        path = Path(entry.path) if entry else Path()
        mended = ""
        with contextlib.suppress(FileNotFoundError):  # it went with its container
            current = path.read_bytes() if entry else b""
            if entry and is_torn(current, entry) and inplace.write(path, entry.old, current):
                mended = entry.path
        self.end()
        return mended

    def _entry(self) -> Optional[Entry]:
        try:
            return decode(files.read_regular(self._file, _MAX_BYTES))
        except (FileNotFoundError, ValueError):
            return None
        except OSError as exc:  # then there was no right to write one either
            logger.debug("%s is not read: %s", self._file, exc.strerror)
            return None
