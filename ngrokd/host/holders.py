"""Which program listens on a port, as far as /proc tells.

A daemon that has given up the right to trace other programs (CAP_SYS_PTRACE) is not shown their
descriptors, so it cannot tell whose a socket is. Its control group, which for a service is as good,
and its user are told to everybody.
"""

from __future__ import annotations

import contextlib
import ipaddress
import pwd
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ngrokd.host import cgroups
from ngrokd.model import Address

# A thousand endpoints that meet the same web server on port 80 are explained by one look at /proc.
_GOOD_FOR_S = 2.0

_LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")


@dataclass(frozen=True)
class _Listening:
    """A listening socket: where, its inode, and the user who made it."""

    place: Address
    inode: str
    uid: int

    def of_somebody(self) -> str:
        """As in "a program of user www-data on 0.0.0.0:80", and how root finds which."""
        try:
            user = f"user {pwd.getpwuid(self.uid).pw_name}"
        except KeyError:  # of a container, or removed
            user = f"uid {self.uid}"
        which = f"which one: `sudo ss -ltnp sport = :{self.place.port}`"
        return f"a program of {user} on {self.place} ({which})"


class Holders:
    """Explains ports that are in use. Owner: main."""

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._read_at = float("-inf")
        self._sockets: dict[Address, _Listening] = {}
        self._programs: dict[str, str] = {}
        self._groups: dict[str, int] = {}

    def of(self, address: Address) -> str:
        """As in "nginx (pid 7) on 0.0.0.0:80", or whose it is; "" where /proc does not tell."""
        now = self._clock()
        if now - self._read_at > _GOOD_FOR_S:
            self._read_at = now
            self._sockets = {each.place: each for each in self._listening()}
            self._programs = dict(self._descriptors())
            self._groups = cgroups.of_listeners()
        for ip in (address.ip, "0.0.0.0", "::"):
            found = self._sockets.get(Address(ip, address.port))
            if found is not None:
                program = self._programs.get(found.inode) or self._of_group(found.inode)
                return f"{program} on {found.place}" if program else found.of_somebody()
        return ""

    def _of_group(self, inode: str) -> str:
        return cgroups.program_in(self._groups[inode]) if inode in self._groups else ""

    def _listening(self) -> Iterator[_Listening]:
        for table in ("tcp6", "tcp"):
            with contextlib.suppress(OSError):  # no IPv6, or no /proc
                for line in (self._proc / "net" / table).read_text().splitlines()[1:]:
                    words = line.split()
                    if words[3] == _LISTEN:
                        yield _Listening(_address(words[1]), words[9], int(words[7]))

    def _descriptors(self) -> Iterator[tuple[str, str]]:
        """The inode of every socket of every process that we may look into, with its program."""
        with contextlib.suppress(OSError):  # no /proc
            for folder in self._proc.iterdir():
                if folder.name.isdigit():
                    yield from _sockets_of(folder)


def _sockets_of(folder: Path) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
        program = f"{(folder / 'comm').read_text().strip()} (pid {folder.name})"
        for descriptor in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found = _SOCKET.fullmatch(str(descriptor.readlink()))
                if found:
                    yield found[1], program


def _address(text: str) -> Address:
    """From `0100007F:0050`: words of 32 bits, each in the machine's byte order."""
    host, _, port = text.partition(":")
    words = [int(host[start : start + 8], 16) for start in range(0, len(host), 8)]
    octets = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    ip = ipaddress.ip_address(octets)
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    return Address(str(ip), int(port, 16))
