"""The interface that a dead daemon left on Linux: found and removed, and never made."""

from __future__ import annotations

import ipaddress
import logging
import socket

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute, lookup
from ngrokd.host.netif.batches import Batches
from ngrokd.host.netif.iproute import Held
from ngrokd.model import InterfaceMode

logger = logging.getLogger(__name__)

_KINDS = frozenset((InterfaceMode.DUMMY.value, InterfaceMode.TUN.value))


def remove(net: NetSettings, run: Runner) -> list[str]:
    """Removes `net.interface_name` if a daemon would adopt it; one line for each thing removed.

    What another program made stays. HostError: it cannot be removed, or stays for what others
    added to it; our addresses are then taken from it.
    """
    name = net.interface_name
    if not _is_there(name):
        return []
    found = lookup.find(name, run)
    if found is None or found.kind not in _KINDS:
        return []
    network = ipaddress.IPv4Network(net.subnet, strict=False)
    held = lookup.held_by(name, run)
    ours = [one for one in held if ipaddress.ip_address(one.ip) in network]
    strange = [one for one in held if one not in ours]
    if strange and not ours:
        logger.info("%s stays: ngrokd did not give it %s", name, strange[0].text)
        return []
    if strange:
        return _take_addresses(name, ours, strange[0], run)
    _delete(name, run)
    addresses = f", with {len(ours)} addresses of {network}" if ours else ""
    return [f"interface {name} is removed{addresses}"]


def _is_there(name: str) -> bool:
    """Asks the kernel: a machine without `ip` may well have nothing to clean up."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _take_addresses(name: str, ours: list[Held], strange: Held, run: Runner) -> list[str]:
    commands = {one.text: iproute.delete_address(name, one.text) for one in ours}
    failed = Batches(run).each(commands)
    left = f", but for {', '.join(failed)}" if failed else ""
    raise HostError(
        f"{name} has the address {strange.text}, which ngrokd did not add: it stays, without "
        f"ngrokd's addresses{left}. Mend, if nobody needs it: ip link delete dev {name}"
    )


def _delete(name: str, run: Runner) -> None:
    try:
        run(iproute.delete_link(name))
    except CommandError as exc:
        if not iproute.is_missing(exc.stderr):
            raise HostError(
                f"{name} is left behind: {exc}. Mend: ip link delete dev {name}"
            ) from exc
