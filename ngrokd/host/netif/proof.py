"""Whose an interface of our name is, and whose its addresses are. Pure."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.host.netif import links
from ngrokd.host.netif.links import Link

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ is 16 with the final NUL

# Made by versions that gave no mark.
_UNMARKED_KINDS = frozenset(("dummy", "tun"))


@dataclass(frozen=True)
class Layout:
    """What ngrokd has on its interface: the gateway, and endpoint addresses of 32 bits."""

    name: str
    network: ipaddress.IPv4Network

    @functools.cached_property  # asked for every address at every poll
    def gateway_ip(self) -> str:
        return str(self.network.network_address + 1)

    @functools.cached_property
    def gateway(self) -> str:
        """With its prefix length."""
        return f"{self.gateway_ip}/{self.network.prefixlen}"

    def is_gateway(self, text: str) -> bool:
        """Also with the length of another subnet, set before."""
        return text.partition("/")[0] == self.gateway_ip

    def is_endpoint(self, text: str) -> bool:
        """It has the form of an address that ngrokd adds."""
        ip, _, prefix = text.partition("/")
        if prefix != "32" or ip == self.gateway_ip:
            return False
        return ipaddress.ip_address(ip) in self.network

    def strange(self, held: Iterable[str]) -> list[str]:
        """Those that ngrokd cannot have added."""
        return [text for text in held if not (self.is_gateway(text) or self.is_endpoint(text))]


def layout_of(net: NetSettings) -> Layout:
    """What the settings say."""
    return Layout(net.interface_name, ipaddress.IPv4Network(net.subnet, strict=False))


def left_behind(
    link: Link, held: Collection[str], layout: Layout, known: Collection[str]
) -> Layout:
    """What a crashed run had on it: `layout`, or, with our mark, that of a subnet set before.

    Of that one every address is to be known, and not only of the form.
    """
    if not link.is_marked or not layout.strange(held):
        return layout
    for text in held:
        earlier = _around(text, layout.name)
        if earlier and all(each == earlier.gateway or each[:-3] in known for each in held):
            return layout if earlier.strange(held) else earlier
    return layout


def _around(gateway: str, name: str) -> Optional[Layout]:
    """None: it is no gateway's address, the first one of its network."""
    try:
        address = ipaddress.IPv4Interface(gateway)
    except ValueError:  # IPv6
        return None
    layout = Layout(name, address.network)
    return layout if gateway == layout.gateway and address.network.prefixlen < 31 else None


def is_same(found: Link, ours: Link) -> bool:
    """Whether `found` is what was ours before. Others can have an index given that was free."""
    now, before = (link.kind.partition(" ")[0] for link in (found, ours))  # what it became since
    is_marked = found.is_marked or not ours.is_marked
    return found.index == ours.index and now == before and is_marked


def what_was_mended(layout: Layout, held: Collection[str]) -> str:
    """For the log; `held`: what was on our interface before."""
    if layout.gateway in held:
        return f"{layout.name} was set down by another program: it is up again"
    return (
        f"{layout.name} lost its address {layout.gateway}: another program removed it. Added again"
    )


def doubt(link: Link, held: Collection[str], layout: Layout, known: Collection[str]) -> str:
    """What speaks against the interface being ours, as in "it ..."; "": it is, and may be deleted.

    `held`: the addresses on it; `known`: those that the state folder remembers. Without our mark,
    as released versions left it, everything else has to prove it.
    """
    if link.kind not in links.KINDS:
        return f"is of kind {link.kind}"
    strange = layout.strange(held)
    if strange:
        return f"has the address {strange[0]}, which ngrokd did not give it"
    if link.is_marked:
        return ""
    if link.kind not in _UNMARKED_KINDS:
        return f"is a {link.kind} without ngrokd's mark, the address {links.MARK_ADDRESS}"
    if layout.gateway not in held:
        return f"has neither ngrokd's mark nor its address {layout.gateway}"
    unknown = [text for text in held if layout.is_endpoint(text) and text[:-3] not in known]
    if unknown:
        return f"has no mark of ngrokd, and the address {unknown[0]}, which ngrokd never gave"
    if not known:
        return "has no mark of ngrokd, and the state folder remembers no address"
    return ""
