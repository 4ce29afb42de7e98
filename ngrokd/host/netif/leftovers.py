"""The interface that a dead daemon left on Linux: found and removed, and never made."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute, linuxreader, loopback, proof, tool
from ngrokd.host.netif.batches import Batches


@dataclass(frozen=True)
class Removal:
    """What is to be done about an interface of our name.

    `stays`: why the interface does, with the mend; "": it goes, with all that is on it.
    """

    deletion: list[str]
    addresses: dict[str, list[str]]  # the command that takes each from it, where it stays
    count: int = 0  # of addresses that go with it
    network: Optional[ipaddress.IPv4Network] = None  # theirs
    stays: str = ""
    takes_batches: bool = False

    @property
    def commands(self) -> list[list[str]]:
        return list(self.addresses.values()) if self.stays else [self.deletion]


def plan(net: NetSettings, known: Collection[str], run: Runner) -> Optional[Removal]:
    """What proves to be ours is to go; None: there is no such interface. Raises CommandError."""
    name = net.interface_name
    if loopback.holds(net.subnet) or not _is_there(name):  # that range has none: it is another's
        return None
    using, found = tool.choose(name, run)
    if found is None:
        return None
    deletion = using.delete(name)
    mend = f"Mend, if nobody needs it: {' '.join(deletion)}"
    held = _held(net, run)
    layout = proof.left_behind(found, held, proof.layout_of(net), known)
    strange = layout.strange(held)
    ours = [text for text in held if text not in strange]
    doubt = proof.doubt(found, ours, layout, known)
    if doubt or (strange and not ours):
        doubt = doubt or f"has the address {strange[0]}, and none of ngrokd's"
        return Removal(deletion, {}, stays=f"{name} stays: it {doubt}. {mend}")
    if strange:
        stays = (
            f"{name} has the address {strange[0]}, which ngrokd did not add: it stays, "
            f"without ngrokd's addresses. {mend}"
        )
        commands = {text: using.remove(layout, text) for text in ours}
        return Removal(
            deletion, commands, stays=stays, takes_batches=using.takes_batches
        )
    return Removal(deletion, {}, len(held), layout.network)


def remove(net: NetSettings, known: Collection[str], run: Runner) -> list[str]:
    """Removes `net.interface_name` if a daemon would adopt it; one line for each thing removed.

    HostError: it cannot be removed, or it stays: what another program made as it is, what others
    added something to without our addresses.
    """
    removal = plan(net, known, run)
    if removal is None:
        return []
    if not removal.stays:
        _delete(net.interface_name, removal.deletion, run)
        return [told(net, removal)]
    failed = Batches(run, removal.takes_batches).each(removal.addresses)
    left = f" Still there: {', '.join(f'{ip} ({why})' for ip, why in failed.items())}"
    raise HostError(removal.stays + (left if failed else ""))


def told(net: NetSettings, removal: Removal) -> str:
    """What is removed with the interface."""
    addresses = f", with {removal.count} addresses of {removal.network}" if removal.count else ""
    return f"interface {net.interface_name} is removed{addresses}"


def _held(net: NetSettings, run: Runner) -> tuple[str, ...]:
    reader = linuxreader.open_reader(net, run)
    try:
        return reader.look().addresses_of(net.interface_name)
    finally:
        reader.close()


def _is_there(name: str) -> bool:
    """Asks the kernel: a machine without `ip` may well have nothing to clean up."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _delete(name: str, deletion: list[str], run: Runner) -> None:
    try:
        run(deletion)
    except CommandError as exc:
        if not iproute.is_missing(exc.stderr):
            raise HostError(f"{name} is left behind: {exc}. Mend: {' '.join(deletion)}") from exc
