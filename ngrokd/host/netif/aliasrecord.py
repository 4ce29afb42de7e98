"""`aliases.json`: which aliases of the loopback interface are ngrokd's, for whoever comes after.

An alias bears no mark, so this file alone tells one of ours from one that somebody else made. It is
written before an alias is there and after it has gone. What it says holds until the next boot,
which no alias outlives.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Optional

from ngrokd.errors import HostError, StateError
from ngrokd.host import files, locks
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import bsd

NAME = "aliases.json"
TAKEN = "another ngrokd (pid {}) keeps {}: give this one a state folder of its own"

_ALWAYS_THERE = "127.0.0.1"
# Of 127.0.0.0/8, as ifconfig prints them: they go into commands, so they are looked at again.
_ALIAS = re.compile(r"127(?:\.(?:0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])){3}")
# The 131,072 addresses that are remembered, each a line of 19 bytes, are 2.5 MB: what is larger
# was not written by us, and would be read for many seconds.
_MAX_BYTES = 4 * 1024 * 1024

logger = logging.getLogger(__name__)


class AliasRecord:
    """Owner: main."""

    def __init__(self, folder: Optional[Path], run: Runner) -> None:
        """`folder`: None: nothing is remembered."""
        self._path = None if folder is None else folder / NAME
        self._run = run
        self._boot = ""  # not told yet
        self._kept: Optional[frozenset[str]] = None  # what the file holds; None: not known
        self._is_unread = False  # it may say of aliases that they are ours, which a later run reads
        self._is_taken = False
        self._lock: Optional[locks.Lock] = None

    def claim(self) -> str:
        """Until `release` no other daemon has it; "": nor now. Else nothing is remembered."""
        if self._path is None or self._lock is not None:
            return ""
        try:
            self._lock = locks.take(locks.folder(), _lock_name(self._path))
        except locks.Taken as exc:
            if exc.is_own:
                return ""
            path, self._path, self._is_taken = self._path, None, True
            return TAKEN.format(exc.pid, path)
        except (HostError, OSError) as exc:  # no place for locks: told by `Claims`
            logger.debug("nobody is kept from %s: %s", self._path, exc)
        return ""

    @property
    def taken(self) -> bool:
        """By another daemon, as `claim` said."""
        return self._is_taken

    def release(self) -> None:
        """Twice is harmless."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def recall(self) -> frozenset[str]:
        """Those that earlier runs of this boot added and did not remove."""
        self._is_unread = False
        if self._path is None:
            return frozenset()
        try:
            document = json.loads(files.read_regular(self._path, _MAX_BYTES))
            boot, ips = document["boot"], frozenset(filter(_is_alias, document["addresses"]))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as exc:
            self._tell_unread(str(exc))
            self._is_unread = isinstance(exc, OSError)  # else nobody can ever read it
            return frozenset()
        this_boot = self._this_boot()
        if boot and not this_boot:
            self._tell_unread("which boot this is is not told")
            self._is_unread = True
        return ips if boot == this_boot else frozenset()

    def remove_orphans(self) -> None:
        """Removes what a run that was killed while it wrote left beside the file."""
        if self._path is not None:
            files.remove_orphans(self._path)

    def keep(self, ips: Collection[str]) -> None:
        """These are ours, or will be in a moment; none: there is no file. Raises StateError."""
        wanted = frozenset(ips)
        if self._path is None or wanted == self._kept:
            return
        if not wanted and self._is_unread:
            return
        self._kept = None
        if wanted:
            document = {"boot": self._this_boot(), "addresses": sorted(wanted)}
            files.write_atomic(self._path, json.dumps(document, indent=0).encode() + b"\n")
            self._is_unread = False
        elif os.path.lexists(self._path):  # a folder that cannot be written would say otherwise
            try:
                self._path.unlink(missing_ok=True)
            except OSError as exc:
                raise StateError(f"{self._path} cannot be removed ({exc.strerror})") from exc
        self._kept = wanted

    def _tell_unread(self, why: str) -> None:
        left = "aliases that a killed ngrokd left stay until the next boot"
        logger.warning("%s cannot be read (%s): %s", self._path, why, left)

    def _this_boot(self) -> str:
        if not self._boot:
            try:
                self._boot = self._run(bsd.SHOW_BOOT).strip()
            except CommandError as exc:  # then the file alone has to prove it
                logger.debug("which boot this is is not told: %s", exc)
        return self._boot


def _is_alias(ip: object) -> bool:
    return isinstance(ip, str) and ip != _ALWAYS_THERE and bool(_ALIAS.fullmatch(ip))


def _lock_name(path: Path) -> str:
    """The same for one folder under two paths."""
    place = os.path.realpath(path)
    try:
        found = path.parent.stat()
        place = f"{found.st_dev}:{found.st_ino}"
    except OSError as exc:
        logger.debug("%s: %s", path.parent, exc.strerror)
    return f"aliases-{hashlib.sha256(place.encode()).hexdigest()[:32]}"
