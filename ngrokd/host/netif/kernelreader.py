"""Looks at links, addresses and routes by asking Linux's kernel, and only if something changed.

Theory of operation. An endpoint has an address of its own, so there may be thousands, and nearly
every look finds what the last one found. The kernel tells of every change (rtnetlink(7)); what it
tells is only taken as a reason to ask anew for all: it says nothing of the routes that go with a
link, and drops what does not fit its buffer. A router's changes of routes that have no part in our
subnet are no reason.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Mapping
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.host.netif import inventory, netlink, rtnetlink
from ngrokd.host.netif.scene import SEVERAL, Need, Scene, Way, gateway

# RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR of linux/rtnetlink.h.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100

_ROUTES = frozenset((rtnetlink.NEW_ROUTE, rtnetlink.DEL_ROUTE))


class KernelReader:
    """Owner: main. Of the network namespace that it was made in."""

    def __init__(self, subnet: str) -> None:
        """`subnet`: whose routes are of interest. Raises OSError where the kernel is not asked."""
        self._subnet = ipaddress.IPv4Network(subnet, strict=False)
        self._told = netlink.opened(_GROUPS)
        self._told.setblocking(False)
        self._scene: Optional[Scene] = None

    def look(self) -> Scene:
        try:
            changed = self._has_changed()
            if self._scene is None or changed:
                self._scene = None  # not the old one again if this look fails
                self._scene = self._read()
        except OSError as exc:
            why = exc.strerror or os.strerror(errno.ETIMEDOUT)
            raise HostError(f"the kernel does not tell its addresses and routes ({why})") from exc
        return self._scene

    def close(self) -> None:
        self._told.close()

    def _has_changed(self) -> bool:
        """Takes all that was told since the last look, to its end."""
        changed = False
        while True:
            try:
                data = netlink.receive(self._told)
            except BlockingIOError:
                return changed
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                changed = True  # more happened than was kept for us
            else:
                changed = changed or self._concerns_us(data)

    def _concerns_us(self, data: bytes) -> bool:
        kinds = {kind for kind, _ in rtnetlink.messages(data)}
        if kinds - _ROUTES:
            return True
        routes, gateways = inventory.routes, inventory.gateways
        return any(True for of in (routes, gateways) for _ in of(data, self._subnet))

    def _read(self) -> Scene:
        answers = list(netlink.all_of(rtnetlink.GET_LINK))
        links = {index: name for data in answers for index, name in inventory.links(data)}
        down = frozenset(index for data in answers for index in inventory.down(data))
        held: dict[int, list[str]] = {}
        for data in netlink.all_of(rtnetlink.GET_ADDRESS):
            for index, text in inventory.addresses(data):
                held.setdefault(index, []).append(text)
        ways: list[Way] = []
        needs: list[Need] = []
        for data in netlink.all_of(rtnetlink.GET_ROUTE):
            for network, link in inventory.routes(data, self._subnet):
                ways.append(Way(network, _name(link, links)))
            for ip, link in inventory.gateways(data, self._subnet):
                needs.append(gateway(ip, _name(link, links)))
        addresses = {index: tuple(texts) for index, texts in held.items()}
        return Scene(links, addresses, tuple(ways), tuple(needs), down)


def _name(index: Optional[int], links: Mapping[int, str]) -> str:
    return SEVERAL if index is None else links.get(index, f"number {index}")
