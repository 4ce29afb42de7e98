"""Which networks this machine has, and when one comes that was not there.

Theory of operation. A link without an address leads nowhere: the ends of container links in a
bridge, the members of a bond and half-made links come and go unnoticed. So a network is an address
on a link that runs, and it comes when either of the two does; a default route counts by itself. The
same address told again (each router advertisement does) is no news. Our own interface and our own
addresses are never looked at, else each answer of ngrok would bring about the next question.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Optional, Union

from ngrokd.model import NetworkCame

# Hosts of Kubernetes have thousands on one link. What does not fit is not noticed when it comes.
MOST_ADDRESSES = 4096
MOST_ROUTES = 64


@dataclass(frozen=True)
class LinkIs:
    """A link is there; `runs`: it is up and has a carrier."""

    index: int
    name: str  # "": not told
    runs: bool


@dataclass(frozen=True)
class LinkGone:
    """A link was taken away."""

    index: int


@dataclass(frozen=True)
class AddressIs:
    """An address that can be used."""

    index: int
    ip: str


@dataclass(frozen=True)
class AddressGone:
    """An address was taken away."""

    index: int
    ip: str


@dataclass(frozen=True)
class DefaultRoute:
    """A default route, or half of one (VPNs lay 0.0.0.0/1 and 128.0.0.0/1 over another's)."""

    index: Optional[int]  # of its link; None: several
    key: tuple[int, ...]  # what tells it from others
    gateway: bytes = b""


@dataclass(frozen=True)
class DefaultRouteGone:
    """A default route was taken away."""

    route: DefaultRoute


@dataclass(frozen=True)
class AllTold:
    """The end of an answer that tells what there is."""


Event = Union[LinkIs, LinkGone, AddressIs, AddressGone, DefaultRoute, DefaultRouteGone, AllTold]


class Networks:
    """Owner: main."""

    def __init__(self, own_interface: str, own_subnets: tuple[str, ...]) -> None:
        self._own = own_interface
        self._subnets = tuple(ipaddress.ip_network(each, strict=False) for each in own_subnets)
        self._links: dict[int, LinkIs] = {}
        self._addresses: dict[int, set[str]] = {}
        self._count = 0  # of addresses
        self._routes: set[DefaultRoute] = set()

    def forget(self) -> None:
        """What was known is told again, from the start."""
        self._links.clear()
        self._addresses.clear()
        self._count = 0
        self._routes.clear()

    def take(self, event: Event) -> Optional[NetworkCame]:
        """One thing that happened; whether a network came with it."""
        if isinstance(event, LinkIs):
            return self._link(event)
        if isinstance(event, LinkGone):
            self._forget_link(event.index)
        elif isinstance(event, AddressIs):
            return self._address(event)
        elif isinstance(event, AddressGone):
            self._address_gone(event)
        elif isinstance(event, DefaultRoute):
            return self._route(event)
        elif isinstance(event, DefaultRouteGone):
            self._routes.discard(event.route)
        return None

    def _link(self, link: LinkIs) -> Optional[NetworkCame]:
        before = self._links.get(link.index)
        if not link.name and before is not None:
            link = LinkIs(link.index, before.name, link.runs)
        self._links[link.index] = link
        if not link.runs:
            # The kernel drops its routes and says nothing; the same one is news when it is back.
            self._routes = {r for r in self._routes if r.index not in (link.index, None)}
            return None
        if (before is not None and before.runs) or link.name == self._own:
            return None
        addresses = self._addresses.get(link.index)
        return NetworkCame(f"{_name(link)} is up", frozenset(addresses)) if addresses else None

    def _address(self, event: AddressIs) -> Optional[NetworkCame]:
        link = self._links.get(event.index)
        known = self._addresses.get(event.index, set())
        is_own = link is not None and link.name == self._own
        if is_own or event.ip in known or self._count >= MOST_ADDRESSES:
            return None
        if not self._counts(event.ip):
            return None
        self._addresses.setdefault(event.index, known).add(event.ip)
        self._count += 1
        if link is not None and not link.runs:
            return None
        return NetworkCame(f"{_name(link)} has {event.ip}", frozenset({event.ip}))

    def _address_gone(self, event: AddressGone) -> None:
        known = self._addresses.get(event.index, set())
        if event.ip in known:
            known.discard(event.ip)
            self._count -= 1

    def _counts(self, text: str) -> bool:
        """Link-local ones come with every link, and lead nowhere."""
        ip = ipaddress.ip_address(text)
        ours = any(ip in subnet for subnet in self._subnets)
        return not (ours or ip.is_link_local or ip.is_multicast or ip.is_unspecified)

    def _route(self, route: DefaultRoute) -> Optional[NetworkCame]:
        link = None if route.index is None else self._links.get(route.index)
        is_own = link is not None and link.name == self._own
        if is_own or route in self._routes:
            return None
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        self._routes.add(route)
        return NetworkCame(f"a default route by {_name(link)}", everywhere=True)

    def _forget_link(self, index: int) -> None:
        self._links.pop(index, None)
        self._count -= len(self._addresses.pop(index, ()))
        self._routes = {r for r in self._routes if r.index not in (index, None)}


def _name(link: Optional[LinkIs]) -> str:
    return link.name if link is not None and link.name else "another link"
