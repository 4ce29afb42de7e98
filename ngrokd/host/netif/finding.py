"""What there is before an interface is made, and whether it may be used. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import Runner
from ngrokd.host.netif import proof, scene, tool
from ngrokd.host.netif.links import Link
from ngrokd.host.netif.proof import Layout
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.tool import Tool


@dataclass(frozen=True)
class Found:
    """What `look` saw, and what it can be changed with."""

    layout: Layout
    tool: Tool
    link: Optional[Link]  # an interface that is ours; None: there is none of our name
    held: tuple[str, ...]  # the addresses on it
    is_outdated: bool  # what that has is of another subnet, set before: it has to be made anew
    conflict: str  # who else uses a part of the subnet, with the mend; "": nobody

    @property
    def endpoints(self) -> list[str]:
        """The endpoint addresses that it has, without their length."""
        return [text.partition("/")[0] for text in self.held if self.layout.is_endpoint(text)]

    @property
    def old_gateways(self) -> list[str]:
        """Of a subnet of another size, set before."""
        return [
            text
            for text in self.held
            if self.layout.is_gateway(text) and text != self.layout.gateway
        ]


def look(net: NetSettings, known: Collection[str], run: Runner, reader: Reader) -> Found:
    """What is there, and whether it may be used. HostError: it may not."""
    layout = proof.layout_of(net)
    if not proof.NAME.fullmatch(layout.name):
        raise HostError(
            f"`{layout.name}` cannot be the name of an interface: up to 15 letters, digits, "
            "`_`, `.` and `-`. Mend: set net.interface_name"
        )
    using, link = tool.choose(layout.name, run)
    refusal = using.refusal(layout)
    if refusal:
        raise HostError(refusal)
    seen = reader.look()
    held = seen.addresses_of(layout.name) if link else ()
    left = layout
    if link:
        left = proof.left_behind(link, held, layout, known)
        refuse_unproven(link, held, left, known, using)
    conflict = scene.conflict(seen, layout.name, layout.network)
    if conflict:
        conflict = (
            f"{layout.network} is in use on this machine: {conflict}. "
            "Mend: set net.subnet to a range that is free here"
        )
    return Found(layout, using, link, held, left is not layout, conflict)


def refuse_unproven(
    link: Link, held: Collection[str], layout: Layout, known: Collection[str], using: Tool
) -> None:
    """Adopting deletes it in the end: so only what is proven ours is adopted. Raises HostError."""
    doubt = proof.doubt(link, held, layout, known)
    if doubt:
        raise HostError(
            f"there is an interface {layout.name} already, and nothing proves that ngrokd made it: "
            f"it {doubt}. Mend: set net.interface_name to another name, or, if nobody needs it: "
            f"{' '.join(using.delete(layout.name))}"
        )
