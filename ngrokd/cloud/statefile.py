"""Files of the state folder: written whole or not at all, damaged ones kept beside.

Any thread, but each file has one owner (the main thread). Every failure is a `StateError` that
names the file, the cause and the mend.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Optional

from ngrokd.errors import StateError

logger = logging.getLogger(__name__)

# Nothing we keep comes near this; more is damage, and is not read into memory.
MAX_FILE_BYTES = 1 << 20

# A file that is itself a mount point (`docker run -v ./tls.key:/etc/ngrokd/tls.key`) cannot be
# renamed onto; rename(2) says one of these.
_NOT_RENAMABLE = frozenset({errno.EBUSY, errno.EXDEV})

_MENDS = {
    errno.EACCES: "run ngrokd as root, or let its user write there",
    errno.EPERM: "run ngrokd as root, or let its user write there",
    errno.EROFS: "make it writable, or name another folder in server.client_cert",
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.ENOTDIR: "name a folder in server.client_cert",
    errno.EISDIR: "move that folder away",
}
_OTHER_MEND = "mend it, or name another folder in server.client_cert"


def read(path: Path) -> Optional[bytes]:
    """The content; None: there is no such file. At most a little over MAX_FILE_BYTES."""
    try:
        # O_NONBLOCK: a FIFO in the place of the file must not hang the daemon.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _fault(path, "cannot be read", exc) from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StateError(f"{path} is not a regular file; move it away")
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(MAX_FILE_BYTES + 1)
        except OSError as exc:
            raise _fault(path, "cannot be read", exc) from exc


def write_atomic(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Make `content` the file's content: after a crash it is the old one or the new one.

    The mode holds from the first byte. A symbolic link stays one; the owner is kept.
    """
    target = Path(os.path.realpath(path))
    sibling = target.with_name(f".{target.name}.{os.urandom(8).hex()}.tmp")
    try:
        _write_new(sibling, content, mode, like=target)
        replace(sibling, target)
    except OSError as exc:
        # If even this fails, the next start sweeps it up; the first failure is the one to report.
        with contextlib.suppress(OSError):
            sibling.unlink(missing_ok=True)
        raise _fault(path, "cannot be written", exc) from exc


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target` for good; where that cannot be, write `target` in place.

    Raises OSError.
    """
    try:
        source.replace(target)
    except OSError as exc:
        if exc.errno not in _NOT_RENAMABLE:
            raise
        logger.warning("%s cannot be replaced (%s); it is written in place", target, exc.strerror)
        _write_in_place(target, source.read_bytes())
        source.unlink()
    _sync_folder(target.parent)


def remove(path: Path) -> None:
    """Remove the file; that it is gone already is fine."""
    try:
        path.unlink()
        _sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _fault(path, "cannot be removed", exc) from exc


def set_aside(path: Path, what_is_wrong: str) -> str:
    """Keep a damaged file as `NAME.corrupt`. Returns the line for the log; never raises."""
    kept = path.with_name(path.name + ".corrupt")
    try:
        path.replace(kept)
    except OSError as exc:
        return f"{path} {what_is_wrong}; it is ignored (and cannot be moved: {exc.strerror})"
    return f"{path} {what_is_wrong}; kept as {kept.name}"


def make_folder(path: Path) -> None:
    """Make the folder, for its owner only, if it is missing."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as exc:
        raise StateError(f"{path} is not a folder; name one in server.client_cert") from exc
    except OSError as exc:
        raise _fault(path, "cannot be made", exc) from exc


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep every other daemon from this folder, until the end or however this process ends.

    Two with one identity would renew, adopt and remove each other's. StateError: another has it.
    """
    make_folder(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _fault(folder, "cannot be opened", exc) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        who = _holder(descriptor)
        os.close(descriptor)
        raise StateError(
            f"another ngrokd{who} uses the state folder {folder}: end that one, or name a file of"
            " another folder in server.client_cert"
        ) from exc
    except OSError as exc:  # a file system without locks; who shares one knows
        logger.debug("%s cannot be locked: %s", folder, exc.strerror)
    try:
        yield
    finally:
        os.close(descriptor)


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove the half-written siblings that a crash left of these files."""
    words = "|".join(re.escape(name) for name in names)
    ours = re.compile(rf"\.(?:{words})\.[0-9a-f]{{16}}\.tmp")
    try:
        for entry in list(folder.iterdir()):
            if ours.fullmatch(entry.name):
                entry.unlink()
    except OSError as exc:  # they only take up room; what needs the folder will say more
        logger.debug("leftovers in %s stay: %s", folder, exc)


def _write_new(path: Path, content: bytes, mode: int, like: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        _keep_owner(descriptor, like)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _keep_owner(descriptor: int, like: Path) -> None:
    """Only root can give files away; anyone else owns what they replace or could not."""
    if os.geteuid() != 0:
        return
    try:
        known = like.stat()
    except FileNotFoundError:
        return
    os.fchown(descriptor, known.st_uid, known.st_gid)


def _write_in_place(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Without this a power cut may undo a rename that was already acted upon."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fault(path: Path, what: str, exc: OSError) -> StateError:
    mend = _MENDS.get(exc.errno or 0, _OTHER_MEND)
    return StateError(f"{path} {what}: {exc.strerror or exc}; {mend}")


def _holder(descriptor: int) -> str:
    """Who has locked what this is open on, as in " (pid 7)"; "" where /proc does not tell."""
    found = os.fstat(descriptor)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            pid = words[words.index(file) - 1] if file in words else ""
            if pid.isdigit() and pid != "0":  # 0: of another namespace
                return f" (pid {pid})"
    return ""
