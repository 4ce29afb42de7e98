"""Linux's messages about links, addresses and routes (rtnetlink(7)), read from bytes."""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterator
from typing import Optional

from ngrokd.host.netif.networks import NO_LINK, Event, Told

# linux/netlink.h, linux/rtnetlink.h. RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE,
# RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE: what is sent to whoever wants to know.
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
ERROR, DONE = 2, 3
NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
LONGEST_DEFAULT = 1  # bits: VPNs lay two halves over the default route of another

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
LINK = struct.Struct("=BxHiII")  # family, type, index, flags, changed
ADDRESS = struct.Struct("=BBBBI")  # family, prefix's length, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths of 2, tos, table, by, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_NUMBER = struct.Struct("=I")
_ERRNO = struct.Struct("=i")  # what the kernel refuses with, negative

_DUMP_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR
_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST, NLM_F_ROOT and NLM_F_MATCH
_TYPE_MASK = 0x3FFF  # the upper bits say that it is nested, or its byte order

UP, _RUNNING = 0x1, 0x40  # IFF_*
LINK_NAME = 3
ADDRESS_FAR, ADDRESS_LOCAL, _ADDRESS_FLAGS = 1, 2, 8
_DUPLICATE, _TENTATIVE = 0x08, 0x40  # IFA_F_DADFAILED, IFA_F_TENTATIVE
ROUTE_LINK, _ROUTE_GATEWAY, _ROUTE_PRIORITY, _ROUTE_TABLE = 4, 5, 6, 15
_UNICAST = 1  # RTN_UNICAST: the others (unreachable, blackhole) lead nowhere


def request_all(kind: int) -> bytes:
    """Asks for all that there is; `kind`: GET_LINK, GET_ADDRESS or GET_ROUTE."""
    body = bytes({GET_LINK: LINK, GET_ADDRESS: ADDRESS, GET_ROUTE: ROUTE}[kind].size)
    return HEADER.pack(HEADER.size + len(body), kind, _REQUEST_DUMP, 1, 0) + body


def is_interrupted(data: bytes) -> bool:
    """Whether something changed while this answer was given, so that it is not to be relied on."""
    return len(data) >= HEADER.size and bool(HEADER.unpack_from(data)[2] & _DUMP_INTERRUPTED)


def refusal(body: bytes) -> int:
    """The errno that a message of kind ERROR tells; 0: it confirms."""
    return -_ERRNO.unpack_from(body)[0] if len(body) >= _ERRNO.size else errno.EPROTO


def events(data: bytes) -> Iterator[Event]:
    """What one datagram tells. Whatever is cut, unknown or makes no sense is passed over."""
    for kind, body in messages(data):
        event = _event(kind, body)
        if event is not None:
            yield event


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, content) of each message of a datagram, up to one that is cut."""
    at, size, end = 0, HEADER.size, len(data)
    unpack = HEADER.unpack_from  # thousands, of which each has an address and a route
    while at + size <= end:
        length, kind, _, _, _ = unpack(data, at)
        if length < size or at + length > end:
            return
        yield kind, data[at + size : at + length]
        at += (length + 3) & ~3


def kinds(data: bytes) -> Iterator[int]:
    """The type of each message of a datagram, as `messages` would give it."""
    at, size, end = 0, HEADER.size, len(data)
    unpack = HEADER.unpack_from
    while at + size <= end:
        length, kind, _, _, _ = unpack(data, at)
        if length < size or at + length > end:
            return
        yield kind
        at += (length + 3) & ~3


def attributes(body: bytes, fixed: int) -> dict[int, bytes]:
    """Type and value of what follows the first `fixed` bytes, up to one that is cut."""
    found = {}
    at, size, end = fixed, _ATTRIBUTE.size, len(body)
    unpack = _ATTRIBUTE.unpack_from
    while at + size <= end:
        length, kind = unpack(body, at)
        if length < size or at + length > end:
            break
        found[kind & _TYPE_MASK] = body[at + size : at + length]
        at += (length + 3) & ~3
    return found


def _event(kind: int, body: bytes) -> Optional[Event]:
    if kind in (NEW_LINK, DEL_LINK) and len(body) >= LINK.size:
        return _link_event(kind, body)
    if kind in (NEW_ADDRESS, DEL_ADDRESS) and len(body) >= ADDRESS.size:
        return _address_event(kind, body)
    if kind in (NEW_ROUTE, DEL_ROUTE) and len(body) >= ROUTE.size:
        return _route_event(kind, body)
    return None


def _link_event(kind: int, body: bytes) -> Optional[Event]:
    family, _, index, flags, _ = LINK.unpack_from(body)
    if family:  # of a bridge about its port: the link itself is neither new nor gone
        return None
    if kind == DEL_LINK:
        return Event(Told.LINK_GONE, index)
    name = attributes(body, LINK.size).get(LINK_NAME, b"").rstrip(b"\0")
    wanted = UP | _RUNNING
    runs = flags & wanted == wanted
    return Event(Told.LINK, index, name.decode("utf-8", "replace"), runs)


def _address_event(kind: int, body: bytes) -> Optional[Event]:
    _, _, flags, _, index = ADDRESS.unpack_from(body)
    found = attributes(body, ADDRESS.size)
    # Of a point-to-point link IFA_ADDRESS is the far end's.
    raw = found.get(ADDRESS_LOCAL) or found.get(ADDRESS_FAR, b"")
    if len(raw) not in (4, 16):
        return None
    ip = str(ipaddress.ip_address(raw))
    if kind == DEL_ADDRESS:
        return Event(Told.ADDRESS_GONE, index, ip)
    flags = number(found.get(_ADDRESS_FLAGS)) or flags
    unusable = flags & (_TENTATIVE | _DUPLICATE)
    return None if unusable else Event(Told.ADDRESS, index, ip)


def _route_event(kind: int, body: bytes) -> Optional[Event]:
    family, length, _, _, table, _, _, sort, _ = ROUTE.unpack_from(body)
    if length > LONGEST_DEFAULT or sort != _UNICAST:
        return None
    found = attributes(body, ROUTE.size)
    table = number(found.get(_ROUTE_TABLE)) or table
    priority = number(found.get(_ROUTE_PRIORITY)) or 0
    key = (family, length, table, priority, found.get(_ROUTE_GATEWAY, b""))
    link = number(found.get(ROUTE_LINK))
    told = Told.DEFAULT_ROUTE if kind == NEW_ROUTE else Told.DEFAULT_ROUTE_GONE
    return Event(told, NO_LINK if link is None else link, key=key)


def number(raw: Optional[bytes]) -> Optional[int]:
    """The value of an attribute of 32 bits; None: it is none."""
    if raw is None or len(raw) != _NUMBER.size:
        return None
    (number,) = _NUMBER.unpack(raw)
    return int(number)
