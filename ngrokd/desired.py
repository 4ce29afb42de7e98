"""From what ngrok lists to what this machine should have. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ngrokd.config import NetSettings
from ngrokd.host import ipam, names, ports
from ngrokd.model import Address, Discovered, Endpoint, Route, SkippedEndpoint, Target

VIRTUAL = "virtual"
LOWEST_FREE_PORT = 1024  # below it the kernel wants CAP_NET_BIND_SERVICE
HTTP_PORT = 80  # the one that a Host field leaves out


@dataclass(frozen=True)
class Facts:
    """What has to be known about this machine to decide."""

    subnet: str
    reserved_names: Collection[str] = ()
    loop_names: Collection[str] = ()  # the API's and the ingress's host
    interface_ips: Mapping[str, str] = field(default_factory=dict)  # listen_interface: its address
    low_ports_forbidden: bool = False
    taken_ports: Collection[int] = ()  # of start_port's range, found in use


@dataclass(frozen=True)
class Remembered:
    """Assignments that outlive a restart and an endpoint's absence."""

    addresses: Mapping[str, str] = field(default_factory=dict)  # hostname: ip
    ports: Mapping[str, int] = field(default_factory=dict)  # "hostname:port": port


@dataclass(frozen=True)
class Desired:
    """What should listen where, and why something cannot."""

    listeners: Mapping[Address, Route] = field(default_factory=dict)
    addresses: frozenset[str] = frozenset()  # to be on our interface
    remembered: Remembered = field(default_factory=Remembered)
    failed: Mapping[Target, str] = field(default_factory=dict)
    skipped: tuple[SkippedEndpoint, ...] = ()


def listen_interface(net: NetSettings, hostname: str) -> str:
    """Where `hostname` is to listen: its override, else `net.listen_interface`."""
    return net.overrides.get(hostname, net.listen_interface)


def desire(
    discovered: Discovered, net: NetSettings, facts: Facts, remembered: Remembered
) -> Desired:
    """Assigns every usable endpoint its address and port; refused names are skipped."""
    skipped = list(discovered.skipped)
    virtual: list[Target] = []
    elsewhere: list[Target] = []
    for endpoint in discovered.endpoints:
        reason = names.refusal(endpoint.target.hostname, facts.reserved_names, facts.loop_names)
        if reason:
            skipped.append(_skip(endpoint, reason))
        elif listen_interface(net, endpoint.target.hostname) == VIRTUAL:
            virtual.append(endpoint.target)
        else:
            elsewhere.append(endpoint.target)

    ips = ipam.assign({to.hostname for to in virtual}, remembered.addresses, facts.subnet)
    failed = {to: ips.failed[to.hostname] for to in virtual if to.hostname in ips.failed}
    hosts = {to: ips.addresses[to.hostname] for to in virtual if to not in failed}
    for to in elsewhere:
        interface = listen_interface(net, to.hostname)
        if interface in facts.interface_ips:
            hosts[to] = facts.interface_ips[interface]
        else:
            failed[to] = f"net.listen_interface {interface}: no such interface with an IPv4 address"

    moved = [
        to
        for to in hosts
        if to in elsewhere or (facts.low_ports_forbidden and to.port < LOWEST_FREE_PORT)
    ]
    assigned = ports.assign_ports(moved, remembered.ports, net.start_port, facts.taken_ports)
    failed.update(assigned.failed)
    web = {each.target for each in discovered.endpoints if each.scheme == "http"}
    renamed = web & assigned.ports.keys()
    return Desired(
        listeners={
            Address(ip, assigned.ports.get(to, to.port)): _route(to, to in renamed)
            for to, ip in hosts.items()
            if to not in assigned.failed
        },
        addresses=frozenset(ips.addresses.values()),
        remembered=Remembered(ips.remembered, assigned.remembered),
        failed=failed,
        skipped=tuple(skipped),
    )


def _route(target: Target, renamed: bool) -> Route:
    """Renamed: with the Host of its URL, since clients name the address that they are given."""
    if not renamed:
        return Route(target)
    return Route(target, target.hostname if target.port == HTTP_PORT else str(target))


def _skip(endpoint: Endpoint, reason: str) -> SkippedEndpoint:
    return SkippedEndpoint(endpoint.ids[0], endpoint.url, reason)
