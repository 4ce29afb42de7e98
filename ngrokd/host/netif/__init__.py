"""The interface that carries the endpoint addresses, as this machine's system has it."""

from __future__ import annotations

import logging
import sys
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import NoAddress
from ngrokd.host.command import Runner
from ngrokd.host.netif import scene
from ngrokd.host.netif.needsreader import NeedsReader
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.system import System
from ngrokd.host.netif.watch import NetworkWatch

logger = logging.getLogger(__name__)


def here(platform: str = sys.platform) -> System:
    """The system of this machine; what others need is not loaded."""
    if platform == "darwin":
        from ngrokd.host.netif.darwin import DarwinSystem

        return DarwinSystem()
    from ngrokd.host.netif.linuxsystem import LinuxSystem

    return LinuxSystem()


def open_reader(net: NetSettings, run: Runner, system: Optional[System] = None) -> Reader:
    """What looks at this machine's interfaces, addresses, routes and name servers."""
    return NeedsReader((system or here()).open_reader(net, run))


def interface_address(name: str, reader: Reader) -> str:
    """The first IPv4 address of any interface. Raises NoAddress, or HostError: not known."""
    seen = reader.look()
    ip = scene.first_ipv4(seen.addresses_of(name))
    if ip:
        return ip
    if seen.index_of(name) is None:
        raise NoAddress(f"there is no interface {name}; `ip link` or `ifconfig` lists them")
    raise NoAddress(f"interface {name} has no IPv4 address")


def watch(net: NetSettings, system: Optional[System] = None) -> Optional[NetworkWatch]:
    """Tells when a network comes that is not ours; `None` where the kernel refuses that."""
    try:
        return (system or here()).open_watch(net)
    except OSError as exc:  # a seccomp filter, or a kernel that is none of Linux's
        logger.debug("that a network came is not noticed here: %s", exc)
        return None
