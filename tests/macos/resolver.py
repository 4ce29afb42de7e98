"""The resolver of macOS: it keeps what it was asked for until `dscacheutil` and `killall` say so.

Open Directory's cache and mDNSResponder's are two: whoever empties one of them still gets the old
answer from the other (man dscacheutil, man mDNSResponder).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ngrokd.host.command import CommandError

FLUSH = ("dscacheutil", "-flushcache")
QUERY = ("dscacheutil", "-q", "host", "-a", "name")
HANG_UP = ("killall", "-HUP", "mDNSResponder")
NO_PROCESS = "No matching processes belonging to you were found"


class Resolver:
    """What programs of this machine get for a name; also a runner of the two commands."""

    def __init__(self, hosts: Path, is_root: bool = True) -> None:
        self._hosts = hosts
        self._is_root = is_root
        self._directory: dict[str, Optional[str]] = {}
        self._responder: dict[str, Optional[str]] = {}
        self.commands: list[tuple[str, ...]] = []
        self.missing: set[str] = set()  # programs that are not there

    def lookup(self, name: str) -> Optional[str]:
        """The address; None: there is no such name, which is kept, too."""
        for cache in (self._directory, self._responder):
            if name in cache:
                return cache[name]
        found = self._read(name)
        self._directory[name] = self._responder[name] = found
        return found

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        """Interprets one command line; fails on any that it does not know."""
        words = tuple(argv)
        self.commands.append(words)
        line = " ".join(words)
        if words[0] in self.missing:
            raise CommandError(f"`{line}`: there is no program {words[0]}", was_started=False)
        if words == FLUSH:
            self._directory.clear()
            return ""
        if words[:-1] == QUERY:
            ip = self.lookup(words[-1])
            return f"name: {words[-1]}\nip_address: {ip}\n\n" if ip else ""
        assert words == HANG_UP, f"macOS does not know: {line}"
        if not self._is_root:
            raise CommandError(f"`{line}`: {NO_PROCESS}", 1, NO_PROCESS)
        self._responder.clear()
        return ""

    def _read(self, name: str) -> Optional[str]:
        for line in self._hosts.read_text().splitlines():
            ip, *names = line.partition("#")[0].split() or [""]
            if name in names:
                return ip
        return None
