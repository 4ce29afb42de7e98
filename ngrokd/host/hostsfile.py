"""The hosts file of this machine: reading it and putting our section into it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from pathlib import Path

from ngrokd.errors import HostError
from ngrokd.host import files, hosts

logger = logging.getLogger(__name__)

# More than that in a row is not somebody saving an edit but a program that never stops writing.
_MAX_ROUNDS = 5

_NEW_FILE_MODE = 0o644  # every program that resolves names reads it

_MENDS = {
    errno.EACCES: "run ngrokd as root, or set net.hosts_file to a file it may write",
    errno.EROFS: (
        "make it writable (under systemd: ReadWritePaths=/etc), "
        "or set net.hosts_file to a file that is"
    ),
    errno.EPERM: "if it is immutable (see `lsattr`): chattr -i {path}",
    errno.ENOSPC: "make room on its file system",
    errno.EDQUOT: "make room on its file system",
    errno.EINVAL: "set net.hosts_file to a regular file",
    errno.ENOENT: "create its folder, or set net.hosts_file to another file",
    errno.EMFILE: "raise the descriptor limit (LimitNOFILE, `ulimit -n`)",
}


class HostsFile:
    """Our section of one hosts file. Owner: main."""

    def __init__(self, path: Path, marker: str) -> None:
        self._path = path
        self._marker = marker
        self._made_by_us = False
        self._in_place_told = False
        # What is there after the last `publish`; while it is, there is nothing to render.
        self._content = b""
        self._names: Mapping[str, str] = {}
        # A block list has 200,000 lines: they are not read again while they are the same.
        self._outside = b""
        self._reserved: frozenset[str] = frozenset()

    def publish(self, names: Mapping[str, str]) -> bool:
        """Makes our section exactly `names` (hostname: address); True if the file was written.

        Raises HostError; no line of the file was then changed.
        """
        for _ in range(_MAX_ROUNDS):
            try:
                content = self._read()
                if content == self._content and names == self._names:
                    return False
                rendered = self._render(content, names)
                if rendered != content:
                    self._write(rendered, content)
            except files.ChangedMeanwhile:
                logger.info("%s was changed by another program just now; redone", self._path)
                continue
            except OSError as exc:
                raise HostError(self._refused(exc, bool(names))) from exc
            self._content, self._names = rendered, dict(names)
            return rendered != content
        raise HostError(
            f"names are not published: another program rewrites {self._path} without a pause; "
            f"find it with `fuser {self._path}`"
        )

    def reserved(self) -> frozenset[str]:
        """Names the file maps outside our section; none if it cannot be read."""
        try:
            content = self._read()
        except OSError as exc:
            logger.debug("%s is not read: %s", self._path, exc.strerror)
            return frozenset()
        outside = hosts.outside(content, self._marker)
        if outside != self._outside:
            self._outside = outside
            self._reserved = frozenset(hosts.names_of(outside))
        return self._reserved

    def remove_orphans(self) -> list[Path]:
        """Removes temporary files that a killed run left beside the file."""
        return files.remove_orphans(self._path)

    def _read(self) -> bytes:
        try:
            files.refuse_special(self._path)
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def _render(self, content: bytes, names: Mapping[str, str]) -> bytes:
        try:
            return hosts.render(content, names, self._marker)
        except HostError as exc:
            raise HostError(f"{self._path}: {exc}") from exc

    def _write(self, rendered: bytes, expected: bytes) -> None:
        if not rendered and self._made_by_us:
            files.real(self._path).unlink()
            return
        self._made_by_us = self._made_by_us or not self._path.exists()
        in_place = files.replace(self._path, rendered, _NEW_FILE_MODE, expected)
        if in_place and not self._in_place_told:
            self._in_place_told = True
            logger.info(
                "%s cannot be replaced (a bind mount, or its folder is closed to us): "
                "it is written in place",
                self._path,
            )

    def _refused(self, exc: OSError, publishing: bool) -> str:
        mend = _MENDS.get(exc.errno or 0, "see `ls -l {path}`").format(path=self._path)
        what = "names are not published" if publishing else "names are not withdrawn"
        return f"{what}: {self._path} cannot be read or written ({exc.strerror}). Mend: {mend}"
