"""This machine's files as the service's room reads and changes them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.errors import HostError

A_LINK = "a link to "  # as `Found.other` begins

MAX_BYTES = 1 << 20  # an init file has some kilobytes; what is larger is not ours
MAX_STATE_BYTES = 1 << 24
FOLDER_MODE = 0o755

Writer = Callable[[Path, bytes, int], None]  # (path, content, mode); raises NgrokdError
Sweeper = Callable[[Path], list[Path]]  # removes what writers of it left that were killed


@dataclass(frozen=True)
class Found:
    """What stands at a path. `content` None: there is nothing, or it is no ordinary file."""

    content: Optional[bytes] = None
    other: str = ""  # "a link to /dev/null", "a folder": in the way

    @property
    def is_nothing(self) -> bool:
        """The path is free."""
        return self.content is None and not self.other


class Disk:
    """Owner: the thread of the command. `root`: where this machine's / is."""

    def __init__(self, write: Writer, sweep: Sweeper, root: Path = Path("/")) -> None:
        self._write = write
        self._sweep = sweep
        self._root = root

    def at(self, path: str) -> Path:
        """Where an absolute path of this machine really is."""
        return self._root / path.lstrip("/")

    def found(self, path: str) -> Found:
        """Raises HostError if it cannot be looked at."""
        place = self.at(path)
        try:
            mode = place.lstat().st_mode
            if stat.S_ISLNK(mode):
                return Found(other=f"{A_LINK}{place.readlink()}")
            if not stat.S_ISREG(mode):
                return Found(other="a folder" if stat.S_ISDIR(mode) else "no ordinary file")
            if place.stat().st_size > MAX_BYTES:
                return Found(other="a file of more than a megabyte")
            return Found(place.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Found()
        except OSError as exc:
            raise HostError(f"{path} cannot be read ({exc.strerror}); run this as root") from exc

    def missing_folders(self, path: str) -> tuple[str, ...]:
        """The folders above `path` that are not there, the topmost first."""
        missing = []
        folder = path.rpartition("/")[0]
        while folder and not self.at(folder).is_dir():
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        return tuple(reversed(missing))

    def matches(self, pattern: str) -> tuple[str, ...]:
        """Paths of this machine that a shell's pattern names, sorted; dangling links too."""
        found = self._root.glob(pattern.lstrip("/"))
        return tuple(sorted(f"/{path.relative_to(self._root)}" for path in found))

    def real(self, path: str) -> str:
        """The same path without links."""
        return f"/{os.path.relpath(os.path.realpath(self.at(path)), os.path.realpath(self._root))}"

    def names(self, folder: str) -> dict[str, bool]:
        """What is in it: whether it is an ordinary file. {} if it is not there."""
        place = self.at(folder)
        try:
            return {each.name: each.is_file() and not each.is_symlink() for each in place.iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as exc:
            raise HostError(f"{folder} cannot be read ({exc.strerror}); run this as root") from exc

    def content(self, path: str) -> bytes:
        """Of an ordinary file; b"" if it is too large to be ours. Raises HostError."""
        try:
            with self.at(path).open("rb") as file:
                content = file.read(MAX_STATE_BYTES + 1)
        except OSError as exc:
            raise HostError(f"{path} cannot be read ({exc.strerror}); run this as root") from exc
        return content if len(content) <= MAX_STATE_BYTES else b""

    def is_folder(self, path: str) -> bool:
        """Also behind a link."""
        return self.at(path).is_dir()

    def write(self, path: str, content: bytes, mode: int) -> None:
        """The whole file. Raises NgrokdError."""
        self._write(self.at(path), content, mode)

    def make_folder(self, path: str, mode: int) -> None:
        """Raises HostError."""
        with _told(path, "made"):
            self.at(path).mkdir(exist_ok=True)
            self.at(path).chmod(mode)  # whatever the umask

    def link(self, path: str, target: str) -> None:
        """Raises HostError."""
        with _told(path, "made"):
            self.at(path).symlink_to(target)

    def sweep(self, path: str) -> list[str]:
        """Removes what writers of this file that were killed left beside it; their names."""
        return [f"{path.rpartition('/')[0]}/{gone.name}" for gone in self._sweep(self.at(path))]

    def remove(self, path: str) -> None:
        """That it is gone already is fine. Raises HostError."""
        with _told(path, "removed"):
            self.at(path).unlink(missing_ok=True)

    def remove_folder(self, path: str) -> bool:
        """If it is empty; False: it is not. Raises HostError."""
        place = self.at(path)
        if not place.is_dir() or place.is_symlink():
            return True
        if any(place.iterdir()):
            return False
        with _told(path, "removed"):
            place.rmdir()
        return True


@contextlib.contextmanager
def _told(path: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise HostError(f"{path} cannot be {what} ({exc.strerror}); see `ls -ld {path}`") from exc
