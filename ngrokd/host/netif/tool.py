"""What the programs of this machine can do with interfaces, and which of them there are."""

from __future__ import annotations

from typing import Optional, Protocol

from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import ifconfig
from ngrokd.host.netif.ifconfigtool import IfconfigTool
from ngrokd.host.netif.iptool import IpTool
from ngrokd.host.netif.links import Link
from ngrokd.host.netif.proof import Layout
from ngrokd.model import InterfaceMode


class Tool(Protocol):
    """Commands as data; only `find` runs some, and they change nothing. Owner: main."""

    @property
    def kinds(self) -> tuple[InterfaceMode, ...]:
        """What it can make, in the order to try."""
        ...

    @property
    def takes_batches(self) -> bool: ...

    def refusal(self, layout: Layout) -> str:
        """Why it cannot serve that, with the mend, or ""."""
        ...

    def find(self, name: str) -> Optional[Link]:
        """The interface of this name; None: there is none. Raises CommandError."""
        ...

    def make(self, name: str, mode: InterfaceMode) -> list[str]: ...

    def settle(self, name: str) -> list[list[str]]:
        """Before it is up. That one fails is no fault."""
        ...

    def bring_up(self, layout: Layout) -> list[list[str]]:
        """With the gateway; what is so already is no fault."""
        ...

    def add(self, layout: Layout, ip: str) -> list[str]: ...

    def remove(self, layout: Layout, text: str) -> list[str]: ...

    def delete(self, name: str) -> list[str]: ...


def choose(name: str, run: Runner) -> tuple[Tool, Optional[Link]]:
    """The tool of this machine, and the interface of this name. Raises CommandError."""
    ip = IpTool(run)
    try:
        return ip, ip.find(name)
    except CommandError as exc:
        if exc.was_started:
            raise
        missing = exc
    try:
        run(ifconfig.SHOW_ALL)
    except CommandError as exc:
        if exc.was_started:
            raise
        raise missing from exc
    using = IfconfigTool(run)
    return using, using.find(name)
