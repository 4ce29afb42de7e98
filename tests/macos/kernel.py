"""The network of a macOS kernel: interfaces with addresses, routes, and utuns that have a holder.

By the sources of xnu that Apple publishes (bsd/netinet/in.c, bsd/net/if_utun.c), as far as ngrokd
comes near them.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

LOOPBACK = "lo0"
CLASSES = ((128, 8), (192, 16), (256, 24))  # by the first byte: the length of the mask


class Refused(Exception):
    """What the kernel says, by its errno's text."""


@dataclass
class Inet:
    """One IPv4 address."""

    ip: str
    length: int
    far: str = ""


@dataclass
class Interface:
    """One interface. `inet6` are whole lines, which nothing here changes."""

    name: str
    kind: str  # "loopback", "ether" or "tunnel"
    mtu: int
    up: bool = True
    inets: list[Inet] = field(default_factory=list)
    inet6: tuple[str, ...] = ()

    def find(self, ip: str) -> Optional[Inet]:
        """None: it does not have it."""
        return next((each for each in self.inets if each.ip == ip), None)


@dataclass(frozen=True)
class Route:
    """One that `route` added."""

    network: ipaddress.IPv4Network
    name: str
    gateway: str = ""


class Kernel:
    """Not for several threads."""

    def __init__(self) -> None:
        self.root = True
        self.utun_refused = ""  # what connecting its control socket says
        self.boot()

    def boot(self) -> None:
        """Nothing outlives it but en0, lo0's own address and a system's utun."""
        self.session = str(uuid.uuid4()).upper()
        loop = ("inet6 ::1 prefixlen 128 ", "inet6 fe80::1%lo0 prefixlen 64 scopeid 0x1 ")
        ether = ("inet6 fe80::1c44:9d2a:7bf0:1a3c%en0 prefixlen 64 secured scopeid 0x4 ",)
        tunnel = ("inet6 fe80::ce81:b1c:bd2c:69e%utun0 prefixlen 64 scopeid 0xf ",)
        self.interfaces = {
            LOOPBACK: Interface(LOOPBACK, "loopback", 16384, inet6=loop),
            "gif0": Interface("gif0", "tunnel", 1280, up=False),
            "en0": Interface("en0", "ether", 1500, inet6=ether),
            "utun0": Interface("utun0", "tunnel", 1380, inet6=tunnel),
        }
        self.interfaces[LOOPBACK].inets.append(Inet("127.0.0.1", 8))
        self.interfaces["en0"].inets.append(Inet("192.168.1.51", 24))
        self.routes: list[Route] = []

    def holds(self, ip: str) -> bool:
        """Whether a program can bind to it."""
        return any(each.find(ip) for each in self.interfaces.values() if each.up)

    def interface(self, name: str) -> Interface:
        """Raises Refused."""
        found = self.interfaces.get(name)
        if found is None:
            raise Refused(f"interface {name} does not exist")
        return found

    def add(self, on: Interface, inet: Inet) -> None:
        """SIOCAIFADDR. An address that is there is changed: that is no error."""
        self._need_root()
        if on.kind != "tunnel":
            inet.far = ""
        there = on.find(inet.ip)
        if there is None:
            on.inets.append(inet)
        elif inet.length or inet.far:
            there.length, there.far = inet.length or there.length, inet.far or there.far
        for each in on.inets:
            each.length = each.length or class_length(each.ip)

    def remove(self, on: Interface, ip: str) -> None:
        """SIOCDIFADDR; "": whichever is the first."""
        self._need_root()
        there = on.find(ip) if ip else next(iter(on.inets), None)
        if there is None:
            raise Refused("Can't assign requested address")
        assert there.ip != "127.0.0.1", "nobody takes 127.0.0.1 from a machine"
        on.inets.remove(there)

    def add_route(self, route: Route) -> None:
        """RTM_ADD."""
        if any(each.network == route.network for each in self.routes):
            raise Refused("File exists")
        self.routes.append(route)

    def remove_route(self, network: ipaddress.IPv4Network) -> None:
        """RTM_DELETE."""
        found = [each for each in self.routes if each.network == network]
        if not found:
            raise Refused("not in table")
        self.routes.remove(found[0])

    def make_utun(self, unit: int) -> str:
        """What connecting the control socket does; its name. 0: the first unit that is free."""
        if self.utun_refused:
            raise Refused(self.utun_refused)
        if not self.root:
            raise Refused("Operation not permitted")
        name = f"utun{unit - 1}" if unit else next(self._free())
        if name in self.interfaces:
            raise Refused("Resource busy")
        self.interfaces[name] = Interface(name, "tunnel", 1500, up=False)
        return name

    def drop_utun(self, name: str) -> None:
        """What the end of its socket does: addresses and routes go with it."""
        self.interfaces.pop(name, None)
        self.routes = [each for each in self.routes if each.name != name]

    def _free(self) -> Iterator[str]:
        number = 0
        while True:
            if f"utun{number}" not in self.interfaces:
                yield f"utun{number}"
            number += 1

    def _need_root(self) -> None:
        if not self.root:
            raise Refused("permission denied")


def class_length(ip: str) -> int:
    """The length of the mask that an address without one has."""
    first = int(ip.partition(".")[0])
    return next(length for below, length in CLASSES if first < below)
