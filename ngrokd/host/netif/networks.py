"""Which networks this machine has, and when one comes that was not there.

Theory of operation. A link without an address leads nowhere: the ends of container links in a
bridge, the members of a bond and half-made links come and go unnoticed. So a network is an address
on a link that runs, and it comes when either of the two does; a default route counts by itself. The
same address told again (each router advertisement does) is no news. Our own interface and our own
addresses are never looked at, else each answer of ngrok would bring about the next question.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Optional

from ngrokd.model import NetworkCame

# Hosts of Kubernetes have thousands on one link. What does not fit is not noticed when it comes.
MOST_ADDRESSES = 4096
MOST_ROUTES = 64
NO_LINK = -1


class Told(enum.Enum):
    """What the kernel tells of."""

    LINK = "link"  # it is there; `runs`: it is up and has a carrier; `name` may be ""
    LINK_GONE = "link gone"
    ADDRESS = "address"  # `name` can be used
    ADDRESS_GONE = "address gone"
    # Or half of one: VPNs lay 0.0.0.0/1 and 128.0.0.0/1 over another's. `index` is its link's,
    # NO_LINK if it has several; `key` tells it from others.
    DEFAULT_ROUTE = "default route"
    DEFAULT_ROUTE_GONE = "default route gone"


@dataclass(frozen=True)
class Event:
    """One thing that the kernel told. One class for all: each costs memory for good."""

    told: Told
    index: int = NO_LINK
    name: str = ""  # the link's, or the address
    runs: bool = False
    key: tuple[object, ...] = ()


class Networks:
    """Owner: main."""

    def __init__(self, own_interface: str, own_subnets: tuple[str, ...]) -> None:
        self._own = own_interface
        self._subnets = tuple(ipaddress.ip_network(each, strict=False) for each in own_subnets)
        self._links: dict[int, tuple[str, bool]] = {}  # name, and whether it runs
        self._addresses: dict[int, set[str]] = {}
        self._count = 0  # of addresses
        self._routes: set[tuple[int, tuple[object, ...]]] = set()  # index and key

    def forget(self) -> None:
        """What was known is told again, from the start."""
        self._links.clear()
        self._addresses.clear()
        self._count = 0
        self._routes.clear()

    def take(self, event: Event) -> Optional[NetworkCame]:
        """One thing that happened; whether a network came with it."""
        told = event.told
        if told is Told.LINK:
            return self._link(event)
        if told is Told.ADDRESS:
            return self._address(event)
        if told is Told.DEFAULT_ROUTE:
            return self._route(event)
        if told is Told.LINK_GONE:
            self._forget_link(event.index)
        elif told is Told.ADDRESS_GONE:
            self._address_gone(event)
        elif told is Told.DEFAULT_ROUTE_GONE:
            self._routes.discard((event.index, event.key))
        return None

    def _link(self, link: Event) -> Optional[NetworkCame]:
        name_before, ran = self._links.get(link.index, ("", False))
        name = link.name or name_before
        self._links[link.index] = (name, link.runs)
        if not link.runs:
            # The kernel drops its routes and says nothing; the same one is news when it is back.
            self._drop_routes(link.index)
            return None
        addresses = self._addresses.get(link.index)
        if ran or name == self._own or not addresses:
            return None
        return NetworkCame(f"{self._name(link.index)} is up", frozenset(addresses))

    def _address(self, event: Event) -> Optional[NetworkCame]:
        name, runs = self._links.get(event.index, ("", True))
        known = self._addresses.get(event.index, set())
        if name == self._own or event.name in known or self._count >= MOST_ADDRESSES:
            return None
        if not self._counts(event.name):
            return None
        self._addresses.setdefault(event.index, known).add(event.name)
        self._count += 1
        if not runs:
            return None
        return NetworkCame(f"{self._name(event.index)} has {event.name}", frozenset({event.name}))

    def _address_gone(self, event: Event) -> None:
        known = self._addresses.get(event.index, set())
        if event.name in known:
            known.discard(event.name)
            self._count -= 1

    def _counts(self, text: str) -> bool:
        """Link-local ones come with every link, and lead nowhere."""
        ip = ipaddress.ip_address(text)
        ours = any(ip in subnet for subnet in self._subnets)
        return not (ours or ip.is_link_local or ip.is_multicast or ip.is_unspecified)

    def _route(self, event: Event) -> Optional[NetworkCame]:
        name, _ = self._links.get(event.index, ("", True))
        route = (event.index, event.key)
        if name == self._own or route in self._routes:
            return None
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        self._routes.add(route)
        return NetworkCame(f"a default route by {self._name(event.index)}", everywhere=True)

    def _forget_link(self, index: int) -> None:
        self._links.pop(index, None)
        self._count -= len(self._addresses.pop(index, ()))
        self._drop_routes(index)

    def _drop_routes(self, index: int) -> None:
        self._routes = {route for route in self._routes if route[0] not in (index, NO_LINK)}

    def _name(self, index: int) -> str:
        name, _ = self._links.get(index, ("", False))
        return name or "another link"
