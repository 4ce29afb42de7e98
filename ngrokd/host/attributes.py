"""Owner, mode and extended attributes, which a new file takes over from the one it replaces."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Optional

NO_SUCH_FEATURE = frozenset((errno.ENOTSUP, errno.ENODATA, errno.EINVAL, errno.ENOSYS))

# They are signatures of the old content: on the new one they would be false.
_NOT_COPIED = frozenset(("security.ima", "security.evm"))

# A folder may give these to whatever is made in it. The file that is replaced did without.
_INHERITED = frozenset(("system.posix_acl_access",))


def take(descriptor: int, path: Path, mode: int) -> None:
    """Gives the new file what the one at `path` has; `mode` where there is none. Raises OSError."""
    try:
        old = path.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, mode)
        return
    if hasattr(os, "listxattr"):
        _take_extended(path, descriptor)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    new = os.fstat(descriptor)
    # Last: without CAP_FOWNER we may change nothing any more of a file that was given away.
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)


def _take_extended(path: Path, descriptor: int) -> None:
    """An SELinux label that is lost makes /etc/hosts unreadable for confined services."""
    wanted = _names(path)
    for name in wanted - _NOT_COPIED:
        value = os.getxattr(path, name)
        if _value(descriptor, name) != value:
            os.setxattr(descriptor, name, value)
    for name in (_names(descriptor) - wanted) & _INHERITED:
        os.removexattr(descriptor, name)


def _names(file: object) -> set[str]:
    try:
        return set(os.listxattr(file))  # type: ignore[arg-type]
    except OSError as exc:
        if exc.errno in NO_SUCH_FEATURE:
            return set()
        raise


def _value(descriptor: int, name: str) -> Optional[bytes]:
    try:
        return os.getxattr(descriptor, name)
    except OSError as exc:
        if exc.errno in NO_SUCH_FEATURE:
            return None
        raise
