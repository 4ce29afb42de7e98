"""What there is before an interface is made, and whether it may be used. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import Runner
from ngrokd.host.netif import iproute, proof, tool
from ngrokd.host.netif.iproute import Held
from ngrokd.host.netif.links import Link
from ngrokd.host.netif.proof import Layout
from ngrokd.host.netif.tool import Tool


@dataclass(frozen=True)
class Found:
    """What `look` saw, and what it saw it with."""

    layout: Layout
    tool: Tool
    link: Optional[Link]  # an interface that is ours; None: there is none of our name
    held: tuple[Held, ...]  # every interface's addresses
    conflict: str  # who else uses a part of the subnet, with the mend; "": nobody

    @property
    def endpoints(self) -> tuple[Held, ...]:
        """The endpoint addresses on the interface that is ours."""
        if self.link is None:
            return ()
        return tuple(one for one in self.on_ours if self.layout.is_endpoint(one))

    @property
    def old_gateways(self) -> tuple[Held, ...]:
        """Of a subnet of another size, set before."""
        return tuple(
            one
            for one in self.on_ours
            if self.layout.is_gateway(one) and one.text != self.layout.gateway
        )

    @property
    def on_ours(self) -> tuple[Held, ...]:
        return tuple(one for one in self.held if one.interface == self.layout.name)


def look(net: NetSettings, known: Collection[str], run: Runner) -> Found:
    """What is there, and whether it may be used; nothing is changed. HostError: it may not."""
    layout = proof.layout_of(net)
    if not proof.NAME.fullmatch(layout.name):
        raise HostError(
            f"`{layout.name}` cannot be the name of an interface: up to 15 letters, digits, "
            "`_`, `.` and `-`. Mend: set net.interface_name"
        )
    using, held = tool.choose(run)
    refusal = using.refusal(layout)
    if refusal:
        raise HostError(refusal)
    found = using.find(layout.name)
    if found:
        of_ours = [one for one in held if one.interface == layout.name]
        doubt = proof.doubt(found, of_ours, layout, known)
        if doubt:
            raise HostError(
                f"there is an interface {layout.name} already, and nothing proves that ngrokd "
                f"made it: it {doubt}. Mend: set net.interface_name to another name, or, if "
                f"nobody needs it: {' '.join(using.delete(layout.name))}"
            )
    conflict = iproute.conflict(held, using.routes(), layout.name, layout.network)
    if conflict:
        conflict = (
            f"{layout.network} is in use on this machine: {conflict}. "
            "Mend: set net.subnet to a range that is free here"
        )
    return Found(layout, using, found, tuple(held), conflict)
