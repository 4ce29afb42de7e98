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
from typing import Optional

from ngrokd.host import cgroups
from ngrokd.model import Address

# A thousand endpoints that meet the same web server on port 80 are explained by one look at /proc.
_GOOD_FOR_S = 2.0

_LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")
_TABLES = ("tcp6", "tcp")
_ANYWHERE = ("0.0.0.0", "::")
_IPV4_DIGITS = 8


@dataclass(frozen=True)
class _Listening:
    """A listening socket: its inode, and the user who made it."""

    inode: str
    uid: int

    def of_somebody(self, place: Address) -> str:
        """As in "a program of user www-data on 0.0.0.0:80", and how root finds which."""
        try:
            user = f"user {pwd.getpwuid(self.uid).pw_name}"
        except KeyError:  # of a container, or removed
            user = f"uid {self.uid}"
        which = f"which one: `sudo ss -ltnp sport = :{place.port}`"
        return f"a program of {user} on {place} ({which})"


class Holders:
    """Explains ports that are in use. Owner: main.

    A socket keeps its inode and its program, so what was found out of one is looked up no more.
    """

    def __init__(
        self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._clock = clock
        self._read_at = float("-inf")
        self._sockets: dict[str, _Listening] = {}  # by the address as the kernel writes it
        self._whose: dict[str, str] = {}  # inode: its program; "" where that is not told
        self._programs: Optional[dict[str, str]] = None  # since the last look
        self._groups: dict[str, int] = {}

    def of(self, address: Address) -> str:
        """As in "nginx (pid 7) on 0.0.0.0:80", or whose it is; "" where /proc does not tell."""
        self._look()
        for ip in (address.ip, *_ANYWHERE):
            place = Address(ip, address.port)
            for written in _as_written(place):
                found = self._sockets.get(written)
                if found is not None:
                    return self._told(found, place)
        if address.ip == _ANYWHERE[0]:  # one on any address is in the way of all
            for written, found in self._sockets.items():
                ip, _, port = written.partition(":")
                if len(ip) == _IPV4_DIGITS and int(port, 16) == address.port:
                    return self._told(found, Address(_ipv4(ip), address.port))
        return ""

    def _told(self, found: _Listening, place: Address) -> str:
        program = self._program(found.inode)
        return f"{program} on {place}" if program else found.of_somebody(place)

    def ports(self) -> frozenset[int]:
        """Every port that somebody listens on, now; none where /proc does not tell."""
        return frozenset(int(written.rpartition(":")[2], 16) for written, _ in self._listening())

    def _look(self) -> None:
        now = self._clock()
        if now - self._read_at <= _GOOD_FOR_S:
            return
        self._read_at, self._programs = now, None
        self._sockets = dict(self._listening())
        inodes = {each.inode for each in self._sockets.values()}
        self._whose = {inode: whose for inode, whose in self._whose.items() if inode in inodes}

    def _program(self, inode: str) -> str:
        if inode not in self._whose:
            if self._programs is None:
                self._programs = dict(self._descriptors())
                self._groups = cgroups.of_listeners()
            self._whose[inode] = self._programs.get(inode) or self._of_group(inode)
        return self._whose[inode]

    def _of_group(self, inode: str) -> str:
        return cgroups.program_in(self._groups[inode]) if inode in self._groups else ""

    def _listening(self) -> Iterator[tuple[str, _Listening]]:
        for table in _TABLES:
            with contextlib.suppress(OSError):  # no IPv6, or no /proc
                for line in (self._proc / "net" / table).read_text().splitlines()[1:]:
                    words = line.split()
                    if words[3] == _LISTEN:
                        yield words[1], _Listening(words[9], int(words[7]))

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


def _as_written(place: Address) -> Iterator[str]:
    """As in `0100007F:0050`: words of 32 bits, each in the machine's byte order.

    An IPv4 address also as a socket of IPv6 has it, which takes both.
    """
    ip = ipaddress.ip_address(place.ip)
    yield _words(ip.packed, place.port)
    if ip.version == 4:
        yield _words(ipaddress.IPv6Address(f"::ffff:{ip}").packed, place.port)


def _ipv4(written: str) -> str:
    octets = int(written, 16).to_bytes(4, sys.byteorder)
    return str(ipaddress.IPv4Address(octets))


def _words(octets: bytes, port: int) -> str:
    numbers = (
        int.from_bytes(octets[at : at + 4], sys.byteorder) for at in range(0, len(octets), 4)
    )
    return f"{''.join(f'{number:08X}' for number in numbers)}:{port:04X}"
