"""`ifconfig` of Linux: net-tools or BusyBox, on a machine without `ip`.

It cannot make an interface, so a small program of ours does: `linkprogram.py`. The addresses could
also be aliases of `lo`, which needs none. But `ifconfig` sets an address first and its mask next,
and until then the kernel takes the whole class for its own: for that moment, or for good if
something fails in between, all of 10.0.0.0/8 would be this machine, and its connections there be
reset. A point-to-point device has no such moment, its addresses are single ones from the start.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Optional

from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import ifconfig, iproute, linkprogram, links
from ngrokd.host.netif.links import Link
from ngrokd.host.netif.proof import Layout
from ngrokd.model import InterfaceMode


class IfconfigTool:
    """A Tool. Owner: main. One process for each address: a thousand take some seconds."""

    kinds: tuple[InterfaceMode, ...] = (InterfaceMode.TUN,)
    takes_batches = False

    def __init__(self, run: Runner) -> None:
        self._run = run

    def refusal(self, layout: Layout) -> str:
        label = ifconfig.longest_label(layout.name, layout.network)
        if len(label) <= ifconfig.MAX_LABEL:
            return ""
        longest = ifconfig.MAX_LABEL - len(label) + len(layout.name)
        return (
            f"`ifconfig` needs a label like {label} for each address, of {ifconfig.MAX_LABEL} "
            f"characters at most. Mend: set net.interface_name to one of up to {longest} "
            "characters, or install iproute2"
        )

    def find(self, name: str) -> Optional[Link]:
        try:
            found = links.of_iproute2(self._run(_program("show", name)))
        except CommandError as exc:
            if iproute.is_missing(exc.stderr):
                return None
            raise
        # Others have no single addresses from the start.
        is_usable = found.kind == InterfaceMode.TUN.value or found.kind not in links.KINDS
        return found if is_usable else replace(found, kind=f"{found.kind}, which needs `ip`")

    def make(self, name: str, mode: InterfaceMode) -> list[str]:
        assert mode is InterfaceMode.TUN
        return _program("make", name)

    def settle(self, name: str) -> list[list[str]]:
        return []

    def bring_up(self, layout: Layout) -> list[list[str]]:
        return [ifconfig.up(layout.name, layout.gateway_ip, layout.network.prefixlen)]

    def add(self, layout: Layout, ip: str) -> list[str]:
        return ifconfig.add(ifconfig.label_of(layout.name, ip, layout.network), ip)

    def remove(self, layout: Layout, text: str) -> list[str]:
        if layout.is_gateway(text):
            return ifconfig.remove_first(layout.name)
        ip = text.partition("/")[0]
        return ifconfig.remove(ifconfig.label_of(layout.name, ip, layout.network))

    def delete(self, name: str) -> list[str]:
        return _program("delete", name)


def _program(verb: str, name: str) -> list[str]:
    """Our own program, by the same Python, which needs nothing but the standard library for it."""
    return [sys.executable or "python3", "-I", "-S", linkprogram.__file__, verb, name]
