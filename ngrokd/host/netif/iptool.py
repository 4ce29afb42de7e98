"""`ip` of iproute2, and of BusyBox, which knows less."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute, links
from ngrokd.host.netif.links import Link
from ngrokd.host.netif.proof import Layout
from ngrokd.model import InterfaceMode


class IpTool:
    """A Tool. Owner: main."""

    kinds: tuple[InterfaceMode, ...] = (
        InterfaceMode.DUMMY,
        InterfaceMode.TUN,
        InterfaceMode.BRIDGE,
    )
    takes_batches = True  # BusyBox's is found out by trying

    def __init__(self, run: Runner) -> None:
        self._run = run

    def refusal(self, layout: Layout) -> str:
        return ""

    def find(self, name: str) -> Optional[Link]:
        try:
            found = self._link(name)
            if found.kind == InterfaceMode.BRIDGE.value:
                ports = links.ports_of(self._run(iproute.SHOW_LINKS), name)
                if ports:
                    return replace(found, kind=f"bridge with the port {ports[0]}")
        except CommandError as exc:
            if iproute.is_missing(exc.stderr):
                return None
            raise
        return found

    def make(self, name: str, mode: InterfaceMode) -> list[str]:
        if mode is InterfaceMode.TUN:
            return iproute.add_tun(name)
        return iproute.add_link(name, mode.value)

    def settle(self, name: str) -> list[list[str]]:
        return [iproute.without_ipv6(name)]  # BusyBox cannot say it; costs a link-local address

    def bring_up(self, layout: Layout) -> list[list[str]]:
        return [iproute.replace_address(layout.name, layout.gateway), iproute.up(layout.name)]

    def add(self, layout: Layout, ip: str) -> list[str]:
        return iproute.replace_address(layout.name, f"{ip}/32")

    def remove(self, layout: Layout, text: str) -> list[str]:
        return iproute.delete_address(layout.name, text)

    def delete(self, name: str) -> list[str]:
        return iproute.delete_link(name)

    def _link(self, name: str) -> Link:
        try:
            return links.of_iproute2(self._run(links.show(name)))
        except CommandError as exc:
            if not iproute.is_busybox(exc.stderr):
                raise
        return links.of_busybox(self._run(links.show_by_busybox(name)))
