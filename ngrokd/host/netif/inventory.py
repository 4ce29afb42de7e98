"""Links, addresses and routes as the kernel lists them (rtnetlink(7)), read from bytes. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import Optional

from ngrokd.host.netif import rtnetlink
from ngrokd.host.netif.scene import NARROWEST_DEFAULT

_IPV4, _IPV6 = 2, 10  # AF_*
_MAIN_OF_THE_KERNEL = 255  # RT_TABLE_LOCAL: where an address brings a route of its own
_DESTINATION = 1  # RTA_DST
_GATEWAY = struct.pack("=HH", 8, 5)  # the head of RTA_GATEWAY with an IPv4 address
# Of an IPv4 address its own and the far end's come first, as the kernel writes them.
_USUAL = struct.Struct("=4s4s4s4s")
_FAR = struct.pack("=HH", 8, rtnetlink.ADDRESS_FAR)
_LOCAL_ADDRESS = struct.pack("=HH", 8, rtnetlink.ADDRESS_LOCAL)
_CLONED = 0x200  # RTM_F_CLONED: a remembered answer, no route
_UNICAST, _LOCAL, _NAT = 1, 2, 10  # RTN_*; the others lead nowhere: nobody loses anything there
_LEADING = frozenset((_UNICAST, _LOCAL, _NAT))
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")


def links(data: bytes) -> Iterator[tuple[int, str]]:
    """(index, name) of each link that one answer lists."""
    for kind, body in rtnetlink.messages(data):
        if kind == rtnetlink.NEW_LINK and len(body) >= rtnetlink.LINK.size:
            family, _, index, _, _ = rtnetlink.LINK.unpack_from(body)
            name = rtnetlink.attributes(body, rtnetlink.LINK.size).get(rtnetlink.LINK_NAME)
            if not family and name is not None:
                yield index, name.rstrip(b"\0").decode("utf-8", "replace")


def down(data: bytes) -> Iterator[int]:
    """The index of each link that one answer of `links` shows as set down."""
    for kind, body in rtnetlink.messages(data):
        if kind == rtnetlink.NEW_LINK and len(body) >= rtnetlink.LINK.size:
            family, _, index, flags, _ = rtnetlink.LINK.unpack_from(body)
            if not family and not flags & rtnetlink.UP:
                yield index


def addresses(data: bytes) -> Iterator[tuple[int, str]]:
    """(index of its link, address as in `10.107.0.1/16`) of each address that one answer lists.

    Of a point-to-point link, whose prefix length is the far end's, as in `10.8.0.1`.
    """
    for kind, body in rtnetlink.messages(data):
        if kind == rtnetlink.NEW_ADDRESS and len(body) >= rtnetlink.ADDRESS.size:
            family, prefix, _, _, index = rtnetlink.ADDRESS.unpack_from(body)
            text = _text(family, prefix, *_ends(body))
            if text:
                yield index, text


def routes(
    data: bytes, subnet: ipaddress.IPv4Network
) -> Iterator[tuple[ipaddress.IPv4Network, Optional[int]]]:
    """(network, index of the link; None: several) of each route that meets `subnet`.

    What has no part of it is passed over by numbers alone: a router may have a million.
    """
    mask, first = int(subnet.netmask), int(subnet.network_address)
    for kind, body in rtnetlink.messages(data):
        if kind not in (rtnetlink.NEW_ROUTE, rtnetlink.DEL_ROUTE):
            continue
        if len(body) < rtnetlink.ROUTE.size:
            continue
        family, length, _, _, table, _, _, sort, flags = rtnetlink.ROUTE.unpack_from(body)
        if family != _IPV4 or not NARROWEST_DEFAULT < length <= 32 or sort not in _LEADING:
            continue
        if flags & _CLONED or (table == _MAIN_OF_THE_KERNEL and length == 32):
            continue
        found = rtnetlink.attributes(body, rtnetlink.ROUTE.size)
        raw = found.get(_DESTINATION, b"")
        if len(raw) != 4:
            continue
        wider = mask & (0xFFFFFFFF << (32 - length))
        if int.from_bytes(raw, "big") & wider == first & wider:
            network = ipaddress.IPv4Network((raw, length), strict=False)
            yield network, rtnetlink.number(found.get(rtnetlink.ROUTE_LINK))


def gateways(
    data: bytes, subnet: ipaddress.IPv4Network
) -> Iterator[tuple[str, Optional[int]]]:
    """(address in `subnet`, index of the link; None: several) of each that a route leads over.

    Found by the bytes of the attribute with the subnet's first ones, also where it lies within
    another (of a route over several): a router's million routes are not taken apart for that.
    """
    first = subnet.network_address.packed[: subnet.prefixlen // 8]
    for kind, body in rtnetlink.messages(data):
        if kind not in (rtnetlink.NEW_ROUTE, rtnetlink.DEL_ROUTE):
            continue
        at = body.find(_GATEWAY + first)
        if at < rtnetlink.ROUTE.size or at % 4 or at + 8 > len(body):
            continue
        family, *_, flags = rtnetlink.ROUTE.unpack_from(body)
        ip = ipaddress.IPv4Address(body[at + 4 : at + 8])
        if family == _IPV4 and not flags & _CLONED and ip in subnet:
            found = rtnetlink.attributes(body, rtnetlink.ROUTE.size)
            yield str(ip), rtnetlink.number(found.get(rtnetlink.ROUTE_LINK))


def _ends(body: bytes) -> tuple[bytes, bytes]:
    """The far end's address and our own: of thousands not every attribute is taken apart."""
    at = rtnetlink.ADDRESS.size
    if len(body) >= at + _USUAL.size:
        far_head, far, own_head, own = _USUAL.unpack_from(body, at)
        if far_head == _FAR and own_head == _LOCAL_ADDRESS:
            return far, own
    found = rtnetlink.attributes(body, at)
    far = found.get(rtnetlink.ADDRESS_FAR, b"")
    return far, found.get(rtnetlink.ADDRESS_LOCAL, far)


def _text(family: int, prefix: int, far: bytes, raw: bytes) -> str:
    if family == _IPV4 and len(raw) == 4:
        text = f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"  # thousands: `ipaddress` takes 20 times that
    elif family == _IPV6 and len(raw) == 16:
        ip = ipaddress.IPv6Address(raw)
        if ip in _LINK_LOCAL:
            return ""
        text = str(ip)
    else:
        return ""
    return text if far and far != raw else f"{text}/{prefix}"
