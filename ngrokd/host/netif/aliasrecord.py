"""`aliases.json`: which aliases of the loopback interface are ngrokd's, for whoever comes after.

An alias bears no mark, so this file alone tells one of ours from one that somebody else made. It is
written before an alias is there and after it has gone. What it says holds until the next boot,
which no alias outlives.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Optional

from ngrokd.errors import StateError
from ngrokd.host import files
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import bsd
from ngrokd.host.netif.loopback import RANGE

NAME = "aliases.json"

_ALWAYS_THERE = "127.0.0.1"
_MAX_BYTES = 64 * 1024 * 1024  # more than a whole /8 of endpoints would ever be

logger = logging.getLogger(__name__)


class AliasRecord:
    """Owner: main."""

    def __init__(self, folder: Optional[Path], run: Runner) -> None:
        """`folder`: None: nothing is remembered."""
        self._path = None if folder is None else folder / NAME
        self._run = run
        self._boot: Optional[str] = None  # not asked for yet
        self._kept: Optional[frozenset[str]] = None  # what the file holds; None: not known

    def recall(self) -> frozenset[str]:
        """Those that earlier runs of this boot added and did not remove."""
        if self._path is None:
            return frozenset()
        try:
            document = json.loads(files.read_regular(self._path, _MAX_BYTES))
            boot, ips = document["boot"], [ip for ip in document["addresses"] if _is_alias(ip)]
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as exc:
            left = "aliases that a killed ngrokd left stay until the next boot"
            logger.warning("%s cannot be read (%s): %s", self._path, exc, left)
            return frozenset()
        return frozenset(ips) if boot == self._this_boot() else frozenset()

    def remove_orphans(self) -> None:
        """Removes what a run that was killed while it wrote left beside the file."""
        if self._path is not None:
            files.remove_orphans(self._path)

    def keep(self, ips: Collection[str]) -> None:
        """These are ours, or will be in a moment; none: there is no file. Raises StateError."""
        wanted = frozenset(ips)
        if self._path is None or wanted == self._kept:
            return
        self._kept = None
        if wanted:
            document = {"boot": self._this_boot(), "addresses": sorted(wanted)}
            files.write_atomic(self._path, json.dumps(document, indent=0).encode() + b"\n")
        elif os.path.lexists(self._path):  # a folder that cannot be written would say otherwise
            try:
                self._path.unlink(missing_ok=True)
            except OSError as exc:
                raise StateError(f"{self._path} cannot be removed ({exc.strerror})") from exc
        self._kept = wanted

    def _this_boot(self) -> str:
        if self._boot is None:
            try:
                self._boot = self._run(bsd.SHOW_BOOT).strip()
            except CommandError as exc:  # then the file alone has to prove it
                logger.debug("which boot this is is not told: %s", exc)
                self._boot = ""
        return self._boot


def _is_alias(ip: object) -> bool:
    """They go into commands, so they are looked at again."""
    try:
        return isinstance(ip, str) and ip != _ALWAYS_THERE and ipaddress.IPv4Address(ip) in RANGE
    except ValueError:
        return False
