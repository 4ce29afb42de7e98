"""Endpoint addresses out of 127.0.0.0/8, which Linux has without any interface and without root."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Optional

from ngrokd.host.netif.ranges import Range
from ngrokd.model import InterfaceMode, InterfaceStatus

RANGE = ipaddress.IPv4Network("127.0.0.0/8")

INTERFACE = "lo"


def holds(subnet: str) -> bool:
    """Whether the subnet needs no interface."""
    return ipaddress.IPv4Network(subnet, strict=False).subnet_of(RANGE)


class Loopback:
    """A part of the loopback range; "adding" an address only keeps account of it. Owner: main."""

    def __init__(
        self, subnet: str, notes: tuple[str, ...] = (), held: Optional[Range] = None
    ) -> None:
        """`held`: what is given back at the end."""
        self._range = held
        network = str(ipaddress.IPv4Network(subnet, strict=False))
        self.status = InterfaceStatus(INTERFACE, network, InterfaceMode.LOOPBACK, notes)
        self._added: set[str] = set()

    def addresses(self) -> frozenset[str]:
        return frozenset(self._added)

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        self._added.update(ips)
        return {}

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        self._added.difference_update(ips)
        return {}

    def close(self) -> None:
        self._added.clear()
        if self._range is not None:
            self._range.release()
