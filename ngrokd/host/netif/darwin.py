"""Endpoint addresses as aliases of lo0 on macOS, which has only 127.0.0.1 by itself."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, NoAddress
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import loopback
from ngrokd.model import InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)

INTERFACE = "lo0"

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
    logger.info(
        "macOS: endpoints have addresses of %s on %s", loopback.FALLBACK_SUBNET, INTERFACE
    )
    note = (
        f"macOS has no interface for {net.subnet}: endpoints have addresses of "
        f"{loopback.FALLBACK_SUBNET}. Mend: set net.subnet to a part of 127.0.0.0/8"
    )
    is_default = net.subnet == NetSettings.subnet
    return Aliases(loopback.FALLBACK_SUBNET, run, () if is_default else (note,))


def first_address(name: str, run: Runner) -> str:
    """The first IPv4 address of any interface. Raises NoAddress, or HostError: not known."""
    try:
        held = held_addresses(run(show(name)))
    except CommandError as exc:
        if "does not exist" in exc.stderr:
            raise NoAddress(f"there is no interface {name}; `ifconfig -l` lists them") from exc
        raise
    if not held:
        raise NoAddress(f"interface {name} has no IPv4 address; see `ifconfig {name}`")
    return held[0]


def remove_leftovers(net: NetSettings, known: frozenset[str], run: Runner) -> list[str]:
    """Removes the aliases of our range that ngrokd remembers. Raises HostError."""
    subnet = net.subnet if loopback.holds(net.subnet) else loopback.FALLBACK_SUBNET
    network = ipaddress.IPv4Network(subnet, strict=False)
    removed = []
    for ip in held_addresses(run(show(INTERFACE))):
        if ip in known and ipaddress.IPv4Address(ip) in network:
            run(remove_alias(ip))
            removed.append(f"{INTERFACE}: the address {ip} is removed")
    return removed


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
