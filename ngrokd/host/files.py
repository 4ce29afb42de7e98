"""Files that are replaced as a whole, so that a crash leaves the old content or the new."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional, TypeVar

from ngrokd.errors import StateError
from ngrokd.host import attributes, exchange, inplace
from ngrokd.host.exchange import ChangedMeanwhile, Shared

logger = logging.getLogger(__name__)

Value = TypeVar("Value", str, int)

# A bind mount cannot be renamed onto (EBUSY, EXDEV); a folder may be closed to us where the file
# is not, as /etc of a read-only container; owner or label may be such that we cannot give them to
# a new file. The file itself may then still be written.
_ONLY_IN_PLACE = frozenset((errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM))

# The 131,072 names that are remembered, each of 253 characters, are 36 MB; what is larger was not
# written by us.
MAX_STATE_BYTES = 48 * 1024 * 1024


def write_atomic(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces the file's content; owner, mode and extended attributes of an existing one stay.

    Raises StateError; the file is then as it was.
    """
    try:
        replace(path, content, mode)
    except OSError as exc:
        raise StateError(f"{path} cannot be written ({exc.strerror}); see `ls -ld {path}`") from exc
    except ChangedMeanwhile as exc:
        raise StateError(f"{path}: another program writes it too; find it with `fuser`") from exc


def replace(path: Path, content: bytes, mode: int, shared: Optional[Shared] = None) -> bool:
    """As `write_atomic`, but True if it had to be done in place, and with OSError.

    With `shared`, raises ChangedMeanwhile if the file is not what it was expected to be just
    before, and one that has other names (hard links) keeps them: it is written in place.
    """
    path = real(path)
    refuse_special(path)
    try:
        if shared is not None and _has_other_names(path):
            raise OSError(errno.EXDEV, "it has other names, too", str(path))
        _replace_by_rename(path, content, mode, shared)
    except OSError as exc:
        if exc.errno not in _ONLY_IN_PLACE or not path.exists():
            raise
        logger.debug("%s is written in place: %s", path, exc.strerror)
        shared = shared or Shared(None)
        if not inplace.write(path, content, shared.expected, shared.log, shared.insist):
            raise ChangedMeanwhile from exc
        return True
    return False


def _has_other_names(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_nlink > 1
    return False


def real(path: Path) -> Path:
    """The file behind all links; unlike `Path.resolve` also for a link that leads to itself."""
    return Path(os.path.realpath(path))


def refuse_special(path: Path) -> None:
    """Raises OSError for a device, pipe or folder: renaming onto /dev/null would destroy it."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise _not_regular(path)


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_regular(path: Path, max_bytes: int = MAX_STATE_BYTES) -> bytes:
    """The file's content; never waits, as opening a pipe without a writer would.

    Raises OSError (FileNotFoundError too), and ValueError if it is larger than `max_bytes`.
    """
    refuse_special(path)  # before `open`, which alone already does something to some devices
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _not_regular(path)
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} is larger than {max_bytes} bytes")
    return content


def remove(path: Path, shared: Shared) -> None:
    """Removes it if it is what was expected. Raises as `replace` with `shared` does."""
    path = real(path)
    exchange.take_out(path, _temporary(path), shared)
    sync_folder(path.parent)


def text_of(path: Path) -> str:
    """What a file of this machine says; "" where it is not there, or cannot be read."""
    try:
        return read_regular(path).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as exc:
        logger.debug("%s is not read: %s", path, exc)
        return ""


def remove_orphans(
    path: Path, is_needed: Optional[Callable[[Path], bool]] = None
) -> list[Path]:
    """Removes what writers that were killed between write and rename left beside `path`.

    `is_needed`: which of them are left alone.
    """
    removed: list[Path] = []
    for orphan in orphans(path):
        if is_needed is None or not is_needed(orphan):
            logger.info("removing %s, left by a run that was killed", orphan)
            with contextlib.suppress(OSError):  # not ours to remove: it harms nobody
                orphan.unlink()
                removed.append(orphan)
    return removed


def orphans(path: Path) -> list[Path]:
    """What writers that were killed between write and rename left beside `path`."""
    path = real(path)
    pattern = re.compile(re.escape(f".{path.name}.ngrokd-") + r"([0-9]+)-[0-9a-f]{16}")
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError as exc:
        logger.debug("%s is not looked through for orphans: %s", path.parent, exc.strerror)
        return []
    found = [(path.parent / name, pattern.fullmatch(name)) for name in sorted(names)]
    return [each for each, pid in found if pid and not _is_being_written(each, int(pid[1]))]


def read_json_mapping(path: Path, kind: type[Value]) -> tuple[dict[str, Value], str]:
    """The file's object, in its order, and a note for the log ("": nothing to say).

    A missing file is empty. One that is not a JSON object of `kind` is kept as `.corrupt`, if that
    can be, and counts as empty. Raises StateError if it cannot be read: it may then not be
    overwritten either.
    """
    try:
        values = json.loads(read_regular(path))
    except FileNotFoundError:
        return {}, ""
    except OSError as exc:
        raise StateError(
            f"{path} cannot be read ({exc.strerror}); see `ls -ld {path}`, "
            "and move it away if it is not ngrokd's file"
        ) from exc
    except (ValueError, RecursionError):
        values = None
    # `type(...) is`: `true` is no port, although Python counts it as an int.
    if isinstance(values, dict) and all(type(value) is kind for value in values.values()):
        return values, ""
    try:
        kept = move_aside(path)
    except StateError as exc:  # to serve with other addresses is better than not to serve
        return {}, f"{exc}; it is made anew"
    return {}, f"{path} is damaged: kept as {kept.name}, and made anew"


def write_json_mapping(path: Path, values: Mapping[str, Value], mode: int = 0o600) -> bool:
    """Saves `values` in their order; False: the file holds them already. Raises StateError."""
    # As `indent=2` makes it, which is written in Python and takes ten times as long.
    body = json.dumps(dict(values), separators=(",\n  ", ": "))
    content = f"{{\n  {body[1:-1]}\n}}\n".encode() if values else b"{}\n"
    # The write below says what is wrong, and mends what is too large.
    with contextlib.suppress(OSError, ValueError):
        if read_regular(path) == content:
            return False
    write_atomic(path, content, mode)
    return True


def move_aside(path: Path) -> Path:
    """Renames a damaged file to NAME.corrupt, over an older one. Raises StateError."""
    kept = path.with_name(f"{path.name}.corrupt")
    try:
        path.replace(kept)
    except OSError as exc:
        raise StateError(
            f"{path} is damaged and cannot be renamed to {kept.name} ({exc.strerror}); remove it"
        ) from exc
    return kept


def _replace_by_rename(path: Path, content: bytes, mode: int, shared: Optional[Shared]) -> None:
    temporary = _temporary(path)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _mark_as_being_written(descriptor)
            attributes.take(descriptor, path, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            exchange.put(temporary, path, content, shared)
    except exchange.Stranded:
        raise
    except BaseException:
        exchange.remove(temporary)
        raise
    sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.ngrokd-{os.getpid()}-{os.urandom(8).hex()}")


def _mark_as_being_written(descriptor: int) -> None:
    """The lock ends with its process; a pid means nothing in another container or a day later."""
    with contextlib.suppress(OSError):  # a file system without locks: the pid in the name must do
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_being_written(temporary: Path, pid: int) -> bool:
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return is_running(pid)  # renamed meanwhile, or not ours to look into
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return is_running(pid)
    finally:
        os.close(descriptor)
    return False


def sync_folder(folder: Path) -> None:
    """What was renamed or removed in it outlives a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some network file systems have no fsync of folders.
        if exc.errno not in attributes.NO_SUCH_FEATURE:
            raise
    finally:
        os.close(descriptor)


def is_running(pid: int) -> bool:
    """Also a process of another user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
