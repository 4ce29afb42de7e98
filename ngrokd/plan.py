"""What to do, in which order, to get from what is there to what should be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ngrokd.model import Address, Route

ANY_IP = "0.0.0.0"  # a listener on every interface; the machine itself reaches it on loopback
LOOPBACK_IP = "127.0.0.1"

Listeners = Mapping[Address, Route]


@dataclass(frozen=True)
class Plan:
    """Steps in the order of their fields; names are published between `retarget` and `close`.

    What gives way is closed before its successor opens, so its names are withdrawn before that.
    """

    give_way: tuple[Address, ...] = ()
    add_addresses: tuple[str, ...] = ()
    open: Listeners = field(default_factory=dict)
    retarget: Listeners = field(default_factory=dict)
    close: tuple[Address, ...] = ()
    remove_addresses: tuple[str, ...] = ()


def plan(
    desired: Listeners,
    wanted_ips: Collection[str],
    actual: Listeners,
    present_ips: Collection[str],
) -> Plan:
    """What to do to get from actual to desired: make before break, wherever the kernel can.

    `wanted_ips` are the addresses that must be on our interface, `present_ips` those that are. The
    latter is not derived from `actual`: else an address whose listener failed would never be
    removed. One with connections still running is to stay until they have ended, because the
    kernel stalls them the moment it goes.
    """
    if desired == actual:  # at nearly every poll, which is to cost little
        desired = actual = {}
    closing, opening, moving = _differences(desired, actual)
    return Plan(
        give_way=_in_the_way(closing, opening),
        add_addresses=tuple(sorted(set(wanted_ips) - set(present_ips))),
        open=opening,
        retarget={at: desired[at] for at in moving},
        close=tuple(closing),
        remove_addresses=tuple(sorted(set(present_ips) - set(wanted_ips))),
    )


def _differences(
    desired: Listeners, actual: Listeners
) -> tuple[list[Address], dict[Address, Route], list[Address]]:
    """What closes, what opens, and what serves another route. Only they are put in order."""
    closing = sorted(at for at in actual if at not in desired)
    opening = {at: desired[at] for at in sorted(at for at in desired if at not in actual)}
    moving = sorted(at for at, route in desired.items() if actual.get(at, route) != route)
    return closing, opening, moving


def _in_the_way(closing: Iterable[Address], opening: Iterable[Address]) -> tuple[Address, ...]:
    """A port on every address and the same port on one of them cannot be listened on at once."""
    ports = {at.port for at in opening}
    ports_of_any = {at.port for at in opening if at.ip == ANY_IP}
    return tuple(at for at in closing if at.port in (ports if at.ip == ANY_IP else ports_of_any))


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
    names: dict[str, str] = {}
    for at, route in listeners.items():
        to = route.target
        if at.port == to.port and (to.hostname, at.ip) not in moved:
            names[to.hostname] = LOOPBACK_IP if at.ip == ANY_IP else at.ip
    return names
