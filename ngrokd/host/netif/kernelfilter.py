"""A socket filter (classic BPF) that keeps messages from us which we would only throw away.

Theory of operation. A router's daemon changes thousands of routes a second, and each of our own
addresses is told with its route. Each would wake the daemon, and together they would crowd out what
counts. The kernel drops them before they are queued. What the filter lets through is judged again:
without it (an old or a shut-in kernel) everything works the same, at more cost.
"""

from __future__ import annotations

import ipaddress
import struct

from ngrokd.host.netif.rtnetlink import (
    DEL_ADDRESS,
    DEL_ROUTE,
    LONGEST_DEFAULT,
    NEW_ADDRESS,
    NEW_ROUTE,
)

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python's socket has no name for it

_INSTRUCTION = struct.Struct("=HBBI")  # code, steps over if true, if false, constant
# linux/filter.h: load a byte, half a word, a word; and; jump if equal, if greater; return
_BYTE, _HALF, _WORD, _AND, _EQUAL, _GREATER, _RETURN = 0x30, 0x28, 0x20, 0x54, 0x15, 0x25, 0x06

# Where things are in a message: behind its header of 16 bytes.
_KIND_AT, _FAMILY_AT, _LENGTH_AT = 4, 16, 17
_ATTRIBUTE_KIND_AT, _IP_AT = 26, 28  # the kernel tells IFA_ADDRESS first, and it has 4 bytes
_IPV4, _IFA_ADDRESS = 2, 1
_WHOLE = 0xFFFFFFFF


def program(own_subnet: str) -> bytes:
    """Drops routes that are no default route, and IPv4 addresses of that subnet."""
    network = ipaddress.IPv4Network(own_subnet, strict=False)
    steps = (
        (_HALF, 0, 0, _KIND_AT),
        (_EQUAL, 10, 0, _swapped(NEW_ROUTE)),
        (_EQUAL, 9, 0, _swapped(DEL_ROUTE)),
        (_EQUAL, 1, 0, _swapped(NEW_ADDRESS)),
        (_EQUAL, 0, 9, _swapped(DEL_ADDRESS)),
        (_BYTE, 0, 0, _FAMILY_AT),  # 5: an address
        (_EQUAL, 0, 7, _IPV4),
        (_HALF, 0, 0, _ATTRIBUTE_KIND_AT),
        (_EQUAL, 0, 5, _swapped(_IFA_ADDRESS)),
        (_WORD, 0, 0, _IP_AT),
        (_AND, 0, 0, int(network.netmask)),
        (_EQUAL, 3, 2, int(network.network_address)),
        (_BYTE, 0, 0, _LENGTH_AT),  # 12: a route
        (_GREATER, 1, 0, LONGEST_DEFAULT),
        (_RETURN, 0, 0, _WHOLE),  # 14: let through
        (_RETURN, 0, 0, 0),  # 15: drop
    )
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)


def count(filter_program: bytes) -> int:
    """How many instructions it has."""
    return len(filter_program) // _INSTRUCTION.size


def _swapped(number: int) -> int:
    """A filter loads in network order what netlink writes in the machine's."""
    (swapped,) = struct.unpack(">H", struct.pack("=H", number))
    return int(swapped)
