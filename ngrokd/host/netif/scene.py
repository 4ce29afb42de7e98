"""What the networks of this machine look like at one moment, and who uses a subnet. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Optional, Protocol

# Wider routes are default routes in disguise (a VPN's 0.0.0.0/1 and 128.0.0.0/1); any subnet lies
# in one of them.
NARROWEST_DEFAULT = 7

SEVERAL = "(several)"  # the interfaces of a route that has more than one


@dataclass(frozen=True)
class Way:
    """A route to `network` by an interface."""

    network: ipaddress.IPv4Network
    interface: str


@dataclass(frozen=True)
class Need:
    """An address of somebody whom this machine must reach, whichever way that goes."""

    ip: str
    what: str  # as in "a name server of /etc/resolv.conf"
    interface: str = ""  # by which it is reached, if that is known


@dataclass(frozen=True)
class Scene:
    """Interfaces and their addresses by the kernel's index, which it gives to no other later.

    An address is as in `10.107.0.1/16`; IPv6 link-local ones are left out, and so are the routes
    that the addresses themselves bring.
    """

    links: Mapping[int, str] = field(default_factory=dict)  # index: name
    held: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # in the kernel's order
    ways: tuple[Way, ...] = ()
    needs: tuple[Need, ...] = ()
    down: frozenset[int] = frozenset()  # those of `links` that are set down, where that is told

    def index_of(self, name: str) -> Optional[int]:
        """None: there is no such interface."""
        return next((index for index, each in self.links.items() if each == name), None)

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """None of an interface that is not there."""
        index = self.index_of(name)
        return () if index is None else self.held.get(index, ())

    def without(self, names: Collection[str]) -> Scene:
        """As it is once these interfaces have gone."""
        links = {index: name for index, name in self.links.items() if name not in names}
        gone = self.links.keys() - links.keys()
        held = {index: texts for index, texts in self.held.items() if index not in gone}
        ways = tuple(way for way in self.ways if way.interface not in names)
        return Scene(links, held, ways, self.needs, self.down - gone)


class Reader(Protocol):
    """Looks at the machine. Owner: main."""

    def look(self) -> Scene:
        """What is there now; the very same object while nothing has changed. Raises HostError."""
        ...

    def close(self) -> None:
        """Twice is harmless."""
        ...


def conflict(scene: Scene, own: str, subnet: ipaddress.IPv4Network) -> str:
    """Who else uses a part of the subnet ("": nobody); `own`, our interface, does not count."""
    for index, texts in scene.held.items():
        name = scene.links.get(index, f"number {index}")
        if name == own:
            continue
        for text in texts:
            if _claims(text, subnet):
                return f"interface {name} has the address {text}"
    for way in scene.ways:
        if way.interface != own and meets(way.network, subnet):
            return f"interface {way.interface} has a route to {way.network}"
    for need in scene.needs:
        if need.interface != own and _holds(subnet, need.ip):
            return f"{need.ip} is {need.what}"
    return ""


def first_ipv4(texts: Iterable[str]) -> str:
    """The first IPv4 address, without its prefix length; "": there is none."""
    return next((text.partition("/")[0] for text in texts if ":" not in text), "")


def meets(network: ipaddress.IPv4Network, subnet: ipaddress.IPv4Network) -> bool:
    """Whether traffic to a part of `subnet` may be meant to go to `network`."""
    return network.prefixlen > NARROWEST_DEFAULT and network.overlaps(subnet)


def gateway(ip: str, interface: str) -> Need:
    """What a route by `interface` leads over."""
    return Need(ip, f"the gateway of a route by interface {interface}", interface)


def _holds(subnet: ipaddress.IPv4Network, text: str) -> bool:
    try:
        return ipaddress.IPv4Address(text) in subnet
    except ValueError:  # IPv6
        return False


def _claims(text: str, subnet: ipaddress.IPv4Network) -> bool:
    try:
        address = ipaddress.IPv4Interface(text)
    except ValueError:  # IPv6
        return False
    return address.ip in subnet or meets(address.network, subnet)
