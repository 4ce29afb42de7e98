"""Reads the kernel's tables and our section of a hosts file. Pure."""

from __future__ import annotations

import ipaddress
import re
import sys
from typing import Optional

from ngrokd.model import Address

_LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h
_OPEN_FILES = re.compile(r"^Max open files\s+(\S+)", re.MULTILINE)


def listening(table: str) -> dict[Address, int]:
    """Of /proc/net/tcp: where something listens, and how many clients it has not taken yet.

    Raises ValueError if that is another table.
    """
    found = {}
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 5:
            raise ValueError("not the kernel's table of TCP sockets")
        if words[3] == _LISTEN:
            found[_address(words[1])] = int(words[4].rpartition(":")[2], 16)
    return found


def open_files(limits: str) -> Optional[int]:
    """The soft limit in /proc/PID/limits; None: there is none."""
    found = _OPEN_FILES.search(limits)
    return int(found[1]) if found and found[1].isdigit() else None


def section(content: bytes, marker: str) -> dict[str, str]:
    """Hostname: address, of the section between these markers; {} without one."""
    lines = content.decode("latin-1").splitlines()
    names: dict[str, str] = {}
    is_inside = False
    for line in lines:
        if line.strip() == f"# BEGIN {marker}":
            is_inside = True
        elif line.strip() == f"# END {marker}":
            is_inside = False
        elif is_inside:
            words = line.partition("#")[0].split()
            names.update({name.lower(): words[0] for name in words[1:]})
    return names


def _address(text: str) -> Address:
    """`0200A8C0:0050`: the kernel writes an address as a number of this machine's byte order."""
    ip, _, port = text.partition(":")
    packed = bytes.fromhex(ip) if sys.byteorder == "big" else bytes.fromhex(ip)[::-1]
    return Address(str(ipaddress.IPv4Address(packed)), int(port, 16))
