"""The interface that carries the endpoint addresses, chosen by platform."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import NoAddress
from ngrokd.host.command import Runner
from ngrokd.host.netif import rehearsal, scene
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.needsreader import NeedsReader
from ngrokd.host.netif.rehearsal import Rehearsal
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.watch import NetworkWatch

logger = logging.getLogger(__name__)


def open_reader(net: NetSettings, run: Runner, platform: str = sys.platform) -> Reader:
    """What looks at this machine's interfaces, addresses, routes and name servers."""
    return NeedsReader(_reader(net, run, platform))


def _reader(net: NetSettings, run: Runner, platform: str) -> Reader:
    if platform == "darwin":
        from ngrokd.host.netif import darwin

        return darwin.IfconfigReader(run)
    from ngrokd.host.netif import linuxreader

    return linuxreader.open_reader(net, run)


def prepare(
    net: NetSettings,
    run: Runner,
    reader: Reader,
    known: Collection[str] = (),
    platform: str = sys.platform,
) -> Backend:
    """Makes or adopts the interface; where that fails, what comes nearest. Every step is logged.

    `known`: addresses that ngrokd remembers to have used.
    """
    if platform == "darwin":
        from ngrokd.host.netif import darwin

        return darwin.prepare(net, run)
    from ngrokd.host.netif import linux

    return linux.prepare(net, known, run, reader)


def rehearse(
    net: NetSettings,
    run: Runner,
    reader: Reader,
    known: Collection[str] = (),
    platform: str = sys.platform,
) -> Rehearsal:
    """What `prepare` and the first addresses would be, as data; nothing is changed."""
    if platform == "darwin":
        from ngrokd.host.netif import darwin

        return darwin.rehearse(net, run)
    return rehearsal.of_linux(net, known, run, reader)


def would_remove(
    net: NetSettings, known: frozenset[str], run: Runner, platform: str = sys.platform
) -> tuple[list[list[str]], list[str]]:
    """The commands of `remove_leftovers`, and what would stay. Raises HostError."""
    if platform == "darwin":
        from ngrokd.host.netif import darwin

        return [darwin.remove_alias(ip) for ip in darwin.left(net, known, run)], []
    from ngrokd.host.netif import leftovers

    removal = leftovers.plan(net, known, run)
    if removal is None:
        return [], []
    return removal.commands, [removal.stays] if removal.stays else []


def remove_leftovers(
    net: NetSettings, known: frozenset[str], run: Runner, platform: str = sys.platform
) -> list[str]:
    """Removes what a dead daemon left, and makes nothing; one line for each thing removed.

    `known`: addresses that ngrokd remembers to have used. Raises HostError.
    """
    if platform == "darwin":
        from ngrokd.host.netif import darwin

        return darwin.remove_leftovers(net, known, run)
    from ngrokd.host.netif import leftovers

    return leftovers.remove(net, known, run)


def interface_address(name: str, reader: Reader) -> str:
    """The first IPv4 address of any interface. Raises NoAddress, or HostError: not known."""
    seen = reader.look()
    ip = scene.first_ipv4(seen.addresses_of(name))
    if ip:
        return ip
    if seen.index_of(name) is None:
        raise NoAddress(f"there is no interface {name}; `ip link` or `ifconfig` lists them")
    raise NoAddress(f"interface {name} has no IPv4 address")


def watch(net: NetSettings, platform: str = sys.platform) -> Optional[NetworkWatch]:
    """Tells when a network comes that is not ours; `None` where the kernel refuses that."""
    try:
        if platform == "darwin":
            from ngrokd.host.netif import darwinwatch

            return darwinwatch.open_watch(net)
        from ngrokd.host.netif import linuxwatch

        return linuxwatch.open_watch(net)
    except OSError as exc:  # a seccomp filter, or a kernel that is none of Linux's
        logger.debug("that a network came is not noticed here: %s", exc)
        return None
