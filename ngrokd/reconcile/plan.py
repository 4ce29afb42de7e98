"""What to do, in which order, to get from what is there to what should be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ngrokd.model import Address, Route

ANY_IP = "0.0.0.0"  # a listener on every interface; the machine itself reaches it on loopback
LOOPBACK_IP = "127.0.0.1"

Listeners = Mapping[Address, Route]
Entry = tuple[str, str]  # of the hosts file: hostname, address


@dataclass(frozen=True)
class Plan:
    """Steps in the order of their fields; names are published between `open` and `close`.

    What gives way is closed before its successor opens, so its names are withdrawn before that.
    """

    give_way: tuple[Address, ...] = ()
    add_addresses: tuple[str, ...] = ()
    retarget: Listeners = field(default_factory=dict)
    open: Listeners = field(default_factory=dict)
    close: tuple[Address, ...] = ()
    remove_addresses: tuple[str, ...] = ()


def plan(
    desired: Listeners,
    wanted_ips: Collection[str],
    actual: Listeners,
    present_ips: Collection[str],
    busy_ips: Collection[str] = (),
) -> Plan:
    """What to do to get from actual to desired: make before break, wherever the kernel can.

    `wanted_ips` are the addresses that must be on our interface, `present_ips` those that are. The
    latter is not derived from `actual`: else an address whose listener failed would never be
    removed. An address with connections still running (`busy_ips`) stays until they have ended,
    because the kernel stalls them the moment it goes.
    """
    if desired is actual or desired == actual:  # thousands, at most polls
        desired = actual = {}
    kept = set(desired).intersection(actual)
    closing = tuple(_in_order(actual, set(actual).difference(desired)))
    opening = _in_order(desired, set(desired).difference(actual))
    retargeted = _in_order(desired, (at for at in kept if actual[at] != desired[at]))
    owners = {
        at.ip: _host(route)
        for changed in (opening, retargeted)
        for at, route in changed.items()
        if at.ip in wanted_ips
    }
    # An address of ours is one hostname's alone, whichever its ports.
    ousted = (at for at in closing if owners.get(at.ip, _host(actual[at])) != _host(actual[at]))
    in_the_way = frozenset(_in_the_way(closing, opening)).union(ousted)
    return Plan(
        give_way=tuple(at for at in closing if at in in_the_way),
        add_addresses=tuple(sorted(lacking(wanted_ips, present_ips))),
        open=opening,
        retarget=retargeted,
        close=closing,
        remove_addresses=tuple(sorted(lacking(present_ips, wanted_ips).difference(busy_ips))),
    )


def lacking(these: Collection[str], those: Collection[str]) -> frozenset[str]:
    """Of `these`, what is not in `those`; none at once where both are the very same value."""
    return frozenset() if these is those else frozenset(these).difference(those)


def _host(route: Route) -> str:
    return route.target.hostname


def _in_order(listeners: Listeners, chosen: Iterable[Address]) -> Listeners:
    """Of `listeners`, those."""
    return {at: listeners[at] for at in sorted(chosen)}


def _in_the_way(closing: Iterable[Address], opening: Iterable[Address]) -> tuple[Address, ...]:
    """A port on every address and the same port on one of them cannot be listened on at once."""
    ports = {at.port for at in opening}
    ports_of_any = {at.port for at in opening if at.ip == ANY_IP}
    return tuple(at for at in closing if at.port in (ports if at.ip == ANY_IP else ports_of_any))


def usurped(
    desired: Listeners, actual: Listeners, standing: Collection[Entry], own_ips: Collection[str]
) -> frozenset[Entry]:
    """Of what stands in the hosts file (hostname, address), all that would lead to another's.

    An address of `own_ips` is one name's alone. On others it is a matter of the port, and so it is
    for what listens on every address.
    """
    owners: dict[str, str] = {}  # of each address of ours
    for at, route in desired.items():
        if at.ip in own_ips and owners.setdefault(at.ip, _host(route)) != _host(route):
            owners[at.ip] = ""  # several: whoever stands there would lead to another's, too
    found = {(name, ip) for name, ip in standing if owners.get(ip, name) != name}
    for at, route in actual.items():
        successor = desired.get(at) or desired.get(Address(ANY_IP, at.port))
        if successor and successor.target.hostname != route.target.hostname:
            entry = route.target.hostname, _named_ip(at)
            if entry in standing:
                found.add(entry)
    return frozenset(found)


def contested_ports(
    desired: Listeners, actual: Listeners, standing: Collection[Entry]
) -> frozenset[int]:
    """Where names that stand in the hosts file have listened until now, and another one would."""
    return frozenset(
        at.port
        for at, route in actual.items()
        if (route.target.hostname, _named_ip(at)) in standing
        for successor in (desired.get(at), desired.get(Address(ANY_IP, at.port)))
        if successor and successor.target.hostname != route.target.hostname
    )


def _named_ip(at: Address) -> str:
    """Under which a name would stand in the hosts file."""
    return LOOPBACK_IP if at.ip == ANY_IP else at.ip


def published_names(listeners: Listeners, own_ips: Collection[str]) -> dict[str, str]:
    """The names that may stand in the hosts file: those that answer there on their own port.

    On an address that is not of `own_ips`, and so not the name's alone, all its ports must be its
    own: whoever uses the name with one that is not would reach another program.
    """
    moved = {
        (route.target.hostname, at.ip)
        for at, route in listeners.items()
        if at.port != route.target.port and at.ip not in own_ips
    }
    first: dict[str, Address] = {}  # where a name answers on several, always the same one
    for at, route in listeners.items():
        name, port = route.target
        if at.port == port and (name, at.ip) not in moved and first.setdefault(name, at) > at:
            first[name] = at
    return {name: _named_ip(at) for name, at in first.items()}
