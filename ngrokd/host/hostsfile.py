"""The hosts file of this machine: reading it and putting our section into it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.host import exchange, files, hosts, journal, lease, orphans, turns
from ngrokd.host.contents import Contents
from ngrokd.host.dispute import Dispute
from ngrokd.host.exchange import ChangedMeanwhile, Shared
from ngrokd.host.firstcopy import FirstCopy
from ngrokd.host.journal import Journal
from ngrokd.model import HostsSection, HostsStatus

logger = logging.getLogger(__name__)

# Between rounds somebody else gets time to finish: an editor that saves needs milliseconds. All of
# them together hold the main thread for 0.13 s.
_PAUSES_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)

# A program that has the file open for writing may be about to write all of it again: it is let
# finish. Who only keeps it open, and has changed nothing for so long, is not waited for.
_HELD_S = 60.0

_NEW_FILE_MODE = 0o644  # every program that resolves names reads it

_NIX_STORE = "/nix/store/"

_MENDS = {
    errno.EACCES: "run ngrokd as root, or set net.hosts_file to a file it may write",
    errno.EROFS: (
        "make it writable (under systemd: ReadWritePaths=/etc), "
        "or set net.hosts_file to a file that is"
    ),
    errno.EPERM: "if `lsattr` shows i or a (immutable, append-only): chattr -i -a {path}",
    errno.ENOSPC: "make room on its file system",
    errno.EDQUOT: "make room on its file system",
    errno.EINVAL: "set net.hosts_file to a regular file",
    errno.ENOENT: "create its folder, or set net.hosts_file to another file",
    errno.EAGAIN: "compare the two, and add to {path} what it lacks",
    errno.EMFILE: "raise the descriptor limit (LimitNOFILE, `ulimit -n`)",
}

_NIX_MEND = (
    'on NixOS set environment.etc.hosts.mode = "0644", which makes it a file of its own, '
    "or networking.extraHosts to the lines that `ngrokctl list --hosts` prints"
)

_DISPUTED = (
    "another program keeps removing or changing ngrokd's section of {path}: it is put back, but "
    "after longer and longer waits, up to 10 minutes, in which names are missing. Mend: find that "
    "program (`auditctl -w {path} -p wa`, later `ausearch -f {path}`) and have it keep the lines "
    "that `ngrokctl list --hosts` prints, or set net.hosts_file to another file"
)


class HostsFile:
    """Our section of one hosts file. Owner: main."""

    def __init__(
        self,
        path: Path,
        marker: str,
        state_folder: Optional[Path] = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`state_folder`: where the copy of the first file is kept, and what is half written."""
        self._path = path
        self._marker = marker
        self._copy = FirstCopy(path, marker, state_folder)
        self._journal: Optional[Journal] = None
        if state_folder is not None:
            self._journal = Journal(journal.place(state_folder, path))
        self._clock = clock
        self._pause = pause
        self._dispute = Dispute()
        self._made: Optional[exchange.Identity] = None  # there was no file
        self._held = b""  # digest of the content that somebody has open for writing, and since when
        self._held_since = 0.0
        self._is_told = False  # that it is written in place: once is enough
        self._content = b""  # after the last `publish`; while it is there, nothing is rendered
        self._names: Mapping[str, str] = {}
        self._contents = Contents(marker)
        self.status = HostsStatus(str(path), HostsSection(marker))

    def publish(self, names: Mapping[str, str]) -> bool:
        """Makes our section exactly `names` (hostname: address); True if the file was written.

        Raises HostError; no line of the file was then changed. `status` tells of both.
        """
        section = self.status.section
        if names != section.names:
            section = HostsSection(self._marker, dict(names))
        try:
            written = self._publish(section.names)
        except HostError as exc:
            self._look()
            self._tell(section, str(exc))
            raise
        is_on = self._dispute.is_on and bool(names)
        self._tell(section, _DISPUTED.format(path=self._path) if is_on else "")
        return written

    def _tell(self, section: HostsSection, problem: str) -> None:
        self.status = self._contents.status(str(self._path), section, problem)

    def reserved(self, own: Mapping[str, str]) -> frozenset[str]:
        """Names the file maps outside our section; as they were while it cannot be read.

        Those of `own` (hostname: address) that it maps to just that address are no reservation.
        The status then has what stands in our section, too.
        """
        self._look()
        self._tell(self.status.section, self.status.problem)
        return self._contents.reserved(own)

    def _look(self) -> None:
        """What was seen stays while it cannot be read."""
        try:
            self._contents.see(self._read())
        except OSError as exc:
            logger.debug("%s is not read: %s", self._path, exc.strerror)

    def who_has(self, names: frozenset[str]) -> Mapping[str, str]:
        """Of these names, in lower case: what has those that the file maps outside our section."""
        return self._contents.who_has(names, str(self._path))

    def remove_orphans(self) -> list[Path]:
        """Removes temporary files that a killed run left beside the file, and beside its copy."""
        return orphans.remove(self._path) + self._copy.remove_orphans()

    def mend(self) -> str:
        """Puts back a file that was written in place and only half; its path, "" for none.

        Raises HostError: it cannot be put back now.
        """
        if self._journal is None or not self._journal.is_open:
            return ""
        path = files.real(self._path)
        try:
            is_mended = self._journal.mend(path)
        except OSError as exc:
            raise HostError(f"half written before, and not mended: {self._refused(exc)}") from exc
        except ChangedMeanwhile as exc:
            raise HostError(
                f"half written before, and not mended: another program writes {path}, too; it is "
                f"tried again. If that does not end: `fuser -v {path}`"
            ) from exc
        if is_mended:
            logger.warning("%s was half written when ngrokd was ended: it is put back", path)
        return str(path) if is_mended else ""

    def _publish(self, names: Mapping[str, str]) -> bool:
        for pause_s in (*_PAUSES_S, 0.0):
            try:
                return self._one_round(names)
            except ChangedMeanwhile:
                logger.debug("%s is being changed by another program: redone", self._path)
                self._pause(pause_s)
            except OSError as exc:
                raise HostError(f"{self._what(names)}: {self._refused(exc)}") from exc
        raise HostError(
            f"{self._what(names)}: another program rewrites {self._path} without a pause, or "
            f"has it open for writing; find it with `fuser -v {self._path}`"
        )

    def _what(self, names: Mapping[str, str]) -> str:
        """It is that cannot be done."""
        self._look()
        lacks = self._contents.lacks(names)
        return "names are not published" if lacks else "names are not withdrawn"

    def _one_round(self, names: Mapping[str, str]) -> bool:
        """Raises ChangedMeanwhile, OSError and HostError."""
        self.mend()
        content = self._read()
        now = self._clock()
        self._contents.see(content)
        if content == self._content and names == self._names:
            self._contents.has(names, content)
            self._dispute.kept(now)
            return False
        insist = self._is_only_held(content, now)  # before: what was read may be half of something
        rendered = self._render(content, names)
        self._judge(content, now)
        if rendered != content:
            if names and self._dispute.wait_s(now):
                self._withdraw_stale(content, names, insist)
            shared = Shared(content, insist, self._journal)
            with self._copy.kept(content) if names else contextlib.nullcontext():
                self._write(rendered, shared)
        self._dispute.put_back(now)
        self._content, self._names = rendered, names
        self._contents.has(names, rendered)
        return rendered != content

    def _withdraw_stale(self, content: bytes, names: Mapping[str, str], insist: bool) -> None:
        """In a dispute: what leads elsewhere by now goes at once, and only the rest waits.

        Raises HostError if anything has to wait.
        """
        standing = hosts.entries(content, self._marker)
        left = dict(names.items() & standing)
        if len(left) < len(standing):
            if len(left) == len(names):
                return  # nothing is missing, so there is nothing to fight for
            self._write(self._render(content, left), Shared(content, insist, self._journal))
        raise HostError(_DISPUTED.format(path=self._path))

    def _is_only_held(self, content: bytes, now: float) -> bool:
        """Somebody has it open for writing. ChangedMeanwhile: who may be about to write."""
        if not lease.is_being_written(self._path):
            self._held = b""
            return False
        digest = hashlib.sha256(content).digest()
        if digest != self._held:
            self._held, self._held_since = digest, now
        if now - self._held_since < _HELD_S:
            raise ChangedMeanwhile
        return True

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

    def _judge(self, content: bytes, now: float) -> None:
        """Is our section there as we left it? An edit elsewhere in the file is nobody's dispute."""
        if not self._names:
            return
        if content == self._content or hosts.holds(content, self._names, self._marker):
            self._dispute.kept(now)
            return
        if not self._dispute.wait_s(now):
            logger.info("another program has removed or changed our section of %s", self._path)
        self._dispute.lost(now)

    def _write(self, rendered: bytes, shared: Shared) -> None:
        path = files.real(self._path)
        with turns.taken(path):
            if not exchange.is_still(path, shared.expected):
                raise ChangedMeanwhile  # before anything is written beside it
            made = exchange.identity(path)
            if not rendered and made is not None and made == self._made:
                files.remove(path, shared)
                self._made = None
                return
            is_ours = made in (None, self._made)
            in_place = files.replace(path, rendered, _NEW_FILE_MODE, shared)
            self._made = exchange.identity(path) if is_ours else None
        if in_place and not self._is_told:
            self._is_told = True
            logger.info(
                "%s cannot be replaced (a bind mount, its folder is closed to us, or it has other"
                " names): it is written in place",
                self._path,
            )


    def _refused(self, exc: OSError) -> str:
        mend = _MENDS.get(exc.errno or 0, "see `ls -l {path}`").format(path=self._path)
        with contextlib.suppress(OSError):
            if _NIX_STORE in str(files.real(self._path)):
                mend = _NIX_MEND
        return f"{self._path} cannot be read or written ({exc.strerror}). Mend: {mend}"
