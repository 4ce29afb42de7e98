"""Endpoint addresses out of 127.0.0.0/8, which Linux has without any interface and without root."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from ngrokd.model import InterfaceMode, InterfaceStatus

RANGE = ipaddress.IPv4Network("127.0.0.0/8")

# Used where the configured subnet cannot be. Far from what others take of 127.0.0.0/8.
FALLBACK_SUBNET = "127.107.0.0/16"

INTERFACE = "lo"


def holds(subnet: str) -> bool:
    """Whether the subnet needs no interface."""
    return ipaddress.IPv4Network(subnet, strict=False).subnet_of(RANGE)


class Loopback:
    """A part of the loopback range; "adding" an address only keeps account of it. Owner: main."""

    def __init__(self, subnet: str, notes: tuple[str, ...] = ()) -> None:
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
