"""From what ngrok lists to what this machine should have. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ngrokd.config import NetSettings
from ngrokd.host import ipam, names, ports
from ngrokd.model import Address, Discovered, Endpoint, Route, SkippedEndpoint, Target
from ngrokd.reconcile.plan import ANY_IP

VIRTUAL = "virtual"
HTTP_PORT = 80  # the one that a Host field leaves out


@dataclass(frozen=True)
class Facts:
    """What has to be known about this machine to decide."""

    subnet: str
    reserved_names: Mapping[str, str] = field(default_factory=dict)  # and what has them
    loop_names: Collection[str] = ()  # the API's and the ingress's host
    interface_ips: Mapping[str, str] = field(default_factory=dict)  # listen_interface: its address
    interface_faults: Mapping[str, str] = field(default_factory=dict)  # why it has none
    forbidden_below: int = 0  # lower ports are refused to us
    taken_ports: Collection[int] = ()  # of start_port's range, found in use
    # Address: the names that stand in the hosts file with it, and cannot be withdrawn.
    held: Mapping[str, Collection[str]] = field(default_factory=dict)


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
    moved: Collection[Target] = ()  # those on a port of `net.start_port` and up
    skipped: tuple[SkippedEndpoint, ...] = ()


def listen_interface(net: NetSettings, hostname: str) -> str:
    """Where `hostname` is to listen: its override, else `net.listen_interface`."""
    return net.overrides.get(hostname, net.listen_interface)


def setting_of(net: NetSettings, hostname: str) -> str:
    """As in `net.overrides.web.ns: eth9`: what says where `hostname` is to listen."""
    if hostname in net.overrides:
        return f"net.overrides.{hostname}: {net.overrides[hostname]}"
    return f"net.listen_interface: {net.listen_interface}"


def desire(
    discovered: Discovered, net: NetSettings, facts: Facts, remembered: Remembered
) -> Desired:
    """Assigns every usable endpoint its address and port; refused names are skipped."""
    skipped = list(discovered.skipped)
    virtual: list[Target] = []
    elsewhere: list[Target] = []
    rules = names.Rules(facts.reserved_names, facts.loop_names)
    for endpoint in discovered.endpoints:
        to = endpoint.target
        reason = rules.refusal(to.hostname)
        if reason:
            skipped.append(_skip(endpoint, reason))
        elif listen_interface(net, to.hostname) == VIRTUAL:
            virtual.append(to)
        else:
            elsewhere.append(to)
    hostnames = {to.hostname for to in virtual}
    ips = ipam.assign(hostnames, remembered.addresses, facts.subnet, facts.held)
    failed = {to: ips.failed[to.hostname] for to in virtual if to.hostname in ips.failed}
    hosts = {to: ips.addresses[to.hostname] for to in virtual if to not in failed}
    for to in elsewhere:
        interface = listen_interface(net, to.hostname)
        if interface in facts.interface_ips:
            hosts[to] = facts.interface_ips[interface]
        else:
            fault = facts.interface_faults.get(interface, "it has no IPv4 address")
            failed[to] = f"{setting_of(net, to.hostname)}: {fault}"

    own = {
        to: Address(hosts[to], to.port)
        for to in virtual
        if to in hosts and to.port >= facts.forbidden_below
    }
    assigned = ports.assign_ports(
        (to for to in hosts if to not in own),
        remembered.ports,
        max(net.start_port, facts.forbidden_below),
        facts.taken_ports,
        {to.port for to in own},
    )
    failed.update(assigned.failed)
    moved = {Address(hosts[to], port): to for to, port in assigned.ports.items()}
    failed.update(_collisions(own, moved))
    web = {each.target for each in discovered.endpoints if each.scheme == "http"}
    everybodys = set(elsewhere)
    return Desired(
        listeners={
            **{at: Route(to) for to, at in own.items() if to not in failed},
            **{
                at: Route(to, _host(to) if to in web else "", to in everybodys)
                for at, to in moved.items()
            },
        },
        addresses=frozenset(ips.addresses.values()),
        remembered=Remembered(ips.remembered, assigned.remembered),
        failed=failed,
        moved=assigned.ports.keys(),
        skipped=tuple(skipped),
    )


def _collisions(
    own: Mapping[Target, Address], moved: Mapping[Address, Target]
) -> dict[Target, str]:
    """Why an endpoint cannot have its own port: another one's clients know that already."""
    failed: dict[Target, str] = {}
    if not moved:
        return failed
    of_any = {at.port: to for at, to in moved.items() if at.ip == ANY_IP}
    for to, at in own.items():
        holder = moved.get(at) or of_any.get(at.port)
        if holder is not None:
            failed[to] = (
                f"{at} cannot be listened on: port {at.port} was given to {holder} before. "
                f"Mend: set net.start_port higher than {at.port}, so that {holder} gets another"
            )
    return failed


def _host(target: Target) -> str:
    """The Host of its URL: clients of a moved one name the address that they are given."""
    return target.hostname if target.port == HTTP_PORT else str(target)


def _skip(endpoint: Endpoint, reason: str) -> SkippedEndpoint:
    return SkippedEndpoint(endpoint.ids[0], endpoint.url, reason)
