"""macOS's messages about links, addresses and routes (route(4)), read from bytes."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import Optional

from ngrokd.host.netif.networks import Event, Told

# net/route.h
VERSION = 5
ADD, DELETE, NEW_ADDRESS, DEL_ADDRESS, LINK = 0x1, 0x2, 0xC, 0xD, 0xE
_DESTINATION, _GATEWAY, _MASK, _OWN = 0x1, 0x2, 0x4, 0x20  # RTA_*, in the order of the addresses
_HOST, _REJECT, _BLACKHOLE = 0x4, 0x8, 0x1000  # RTF_*
_UP, _RUNNING = 0x1, 0x40  # IFF_*
_INET, _INET6 = 2, 30  # AF_*, as macOS numbers them

_START = struct.Struct("=HBB")  # length, version, type
_ROUTE = struct.Struct("=HBBHxxii")  # and index, flags, which addresses
_ROUTE_BYTES = 92
_OF_LINK = struct.Struct("=HBBiiH")  # and which addresses, flags, index
_ADDRESS_BYTES = 20


def events(data: bytes) -> Iterator[Event]:
    """What one message tells; nothing if it is cut, unknown or makes no sense."""
    if len(data) < _START.size:
        return
    length, version, kind = _START.unpack_from(data)
    if version != VERSION or length > len(data):
        return
    event = None
    if kind in (ADD, DELETE) and length >= _ROUTE_BYTES:
        event = _route_event(kind, data[:length])
    elif kind in (NEW_ADDRESS, DEL_ADDRESS) and length >= _ADDRESS_BYTES:
        event = _address_event(kind, data[:length])
    elif kind == LINK and length >= _OF_LINK.size:
        _, _, _, _, flags, index = _OF_LINK.unpack_from(data)
        wanted = _UP | _RUNNING
        event = Event(Told.LINK, index, runs=flags & wanted == wanted)
    if event is not None:
        yield event


def _address_event(kind: int, data: bytes) -> Optional[Event]:
    _, _, _, which, _, index = _OF_LINK.unpack_from(data)
    ip = _ip(_addresses(data[_ADDRESS_BYTES:], which).get(_OWN, b""))
    if ip is None:
        return None
    told = Told.ADDRESS if kind == NEW_ADDRESS else Told.ADDRESS_GONE
    return Event(told, index, str(ip))


def _route_event(kind: int, data: bytes) -> Optional[Event]:
    _, _, _, index, flags, which = _ROUTE.unpack_from(data)
    if flags & (_HOST | _REJECT | _BLACKHOLE):
        return None
    found = _addresses(data[_ROUTE_BYTES:], which)
    destination = _ip(found.get(_DESTINATION, b""))
    if destination is None or int(destination) or _mask_has_bits(found.get(_MASK, b"")):
        return None
    told = Told.DEFAULT_ROUTE if kind == ADD else Told.DEFAULT_ROUTE_GONE
    return Event(told, index, key=(destination.version, found.get(_GATEWAY, b"")))


def _addresses(rest: bytes, which: int) -> dict[int, bytes]:
    """By RTA bit. Each begins with its length, and fills up to a multiple of 4."""
    found = {}
    at = 0
    for bit in (1 << n for n in range(8)):
        if not which & bit or at >= len(rest):
            continue
        length = rest[at]
        found[bit] = rest[at : at + length]
        at += max((length + 3) & ~3, 4)
    return found


def _ip(address: bytes) -> Optional[ipaddress._BaseAddress]:
    family = address[1] if len(address) > 1 else 0
    if family == _INET and len(address) >= 8:
        return ipaddress.IPv4Address(address[4:8])
    if family == _INET6 and len(address) >= 24:
        return ipaddress.IPv6Address(address[8:24])
    return None


def _mask_has_bits(mask: bytes) -> bool:
    """Of a mask only the part up to its last bit is told: that of a default route is empty."""
    return any(mask[4:])
