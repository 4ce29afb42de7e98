"""Endpoint addresses as aliases of lo0 on macOS, which has only 127.0.0.1 by itself."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import loopback, ranges
from ngrokd.host.netif.rehearsal import Rehearsal
from ngrokd.host.netif.scene import Scene
from ngrokd.model import InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)

INTERFACE = "lo0"

SHOW_ALL = ["ifconfig", "-a"]

_INTERFACE = re.compile(r"^(\S+): flags=", re.MULTILINE)
_INET = re.compile(r"^\s+inet ([0-9.]+) ", re.MULTILINE)


def show(name: str) -> list[str]:
    """Lists the interface with its addresses."""
    return ["ifconfig", name]


def add_alias(ip: str) -> list[str]:
    """Gives lo0 one more address."""
    return ["ifconfig", INTERFACE, "alias", ip, "netmask", "255.255.255.255"]


def remove_alias(ip: str) -> list[str]:
    """Takes an address from lo0."""
    return ["ifconfig", INTERFACE, "-alias", ip]


def held_addresses(answer: str) -> list[str]:
    """The IPv4 addresses that an answer of `show` lists."""
    return _INET.findall(answer)


def prepare(net: NetSettings, run: Runner) -> Aliases:
    """No interface can be made of a chosen name: a subnet that needs one becomes the loopback's."""
    if loopback.holds(net.subnet):
        return Aliases(net.subnet, run)
    instead = ranges.first_of(net.interface_name)
    logger.info("macOS: endpoints have addresses of %s on %s", instead, INTERFACE)
    note = (
        f"macOS has no interface for {net.subnet}: endpoints have addresses of "
        f"{instead}. Mend: set net.subnet to a part of 127.0.0.0/8"
    )
    is_default = net.subnet == NetSettings.subnet
    return Aliases(instead, run, () if is_default else (note,))


def remove_leftovers(net: NetSettings, known: frozenset[str], run: Runner) -> list[str]:
    """Removes the aliases of our range that ngrokd remembers. Raises HostError."""
    removed = []
    for ip in left(net, known, run):
        run(remove_alias(ip))
        removed.append(f"{INTERFACE}: the address {ip} is removed")
    return removed


def left(net: NetSettings, known: frozenset[str], run: Runner) -> list[str]:
    """The aliases of our range that ngrokd remembers. Raises HostError."""
    network = ipaddress.IPv4Network(_subnet(net), strict=False)
    held = held_addresses(run(show(INTERFACE)))
    return [ip for ip in held if ip in known and ipaddress.IPv4Address(ip) in network]


def rehearse(net: NetSettings, run: Runner) -> Rehearsal:
    """What the first addresses would be; an alias that is there is used, and not removed."""
    try:
        held = held_addresses(run(show(INTERFACE)))
    except HostError as exc:
        return Rehearsal(_subnet(net), refused=(str(exc),))
    return Rehearsal(_subnet(net), add=lambda ip: [] if ip in held else [add_alias(ip)])


def _subnet(net: NetSettings) -> str:
    return net.subnet if loopback.holds(net.subnet) else ranges.first_of(net.interface_name)


class IfconfigReader:
    """Looks at interfaces and their IPv4 addresses. Owner: main. Each look runs one program."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def look(self) -> Scene:
        _, *parts = _INTERFACE.split(self._run(SHOW_ALL))
        names = dict(enumerate(parts[::2]))
        return Scene(names, dict(enumerate(tuple(held_addresses(part)) for part in parts[1::2])))

    def close(self) -> None:
        """It holds nothing."""


class Aliases:
    """Aliases of lo0. Owner: main.

    An alias that was there before is used, and not removed: nothing tells whose it is.
    """

    def __init__(self, subnet: str, run: Runner, notes: tuple[str, ...] = ()) -> None:
        network = str(ipaddress.IPv4Network(subnet, strict=False))
        self.status = InterfaceStatus(INTERFACE, network, InterfaceMode.LOOPBACK, notes)
        self._run = run
        self._wanted: set[str] = set()
        self._added: set[str] = set()

    def addresses(self) -> frozenset[str]:
        return frozenset(self._wanted.intersection(self._held()))

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = [str(ipaddress.IPv4Address(ip)) for ip in ips]
        try:
            held = self._held() if wanted else set()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        failed = {}
        for ip in wanted:
            try:
                if ip not in held:
                    self._run(add_alias(ip))
                    self._added.add(ip)
                self._wanted.add(ip)
            except CommandError as exc:
                failed[ip] = f"{exc}. Mend: run ngrokd as root"
        return failed

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        failed = {}
        gone = self._wanted.intersection(ips)
        for ip in sorted(gone):
            try:
                if ip in self._added and ip in self._held():
                    self._run(remove_alias(ip))
            except CommandError as exc:
                failed[ip] = str(exc)
                continue
            self._wanted.discard(ip)
            self._added.discard(ip)
        return failed

    def close(self) -> None:
        failed = self.remove(sorted(self._wanted))
        if failed:
            raise HostError("; ".join(failed.values()))

    def _held(self) -> set[str]:
        return set(held_addresses(self._run(show(INTERFACE))))
