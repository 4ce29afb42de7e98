"""What to do, in which order, to get from what is there to what should be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ngrokd.model import Address, Route

ANY_IP = "0.0.0.0"  # a listener on every interface; the machine itself reaches it on loopback
LOOPBACK_IP = "127.0.0.1"

Listeners = Mapping[Address, Route]


@dataclass(frozen=True)
class Plan:
    """Steps in the order of their fields; names are published between `retarget` and `close`."""

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
    busy_ips: Collection[str] = (),
) -> Plan:
    """What to do to get from actual to desired: make before break.

    `wanted_ips` are the addresses that must be on our interface, `present_ips` those that are. The
    latter is not derived from `actual`: else an address whose listener failed would never be
    removed. An address with connections still running (`busy_ips`) stays until they have ended,
    because the kernel stalls them the moment it goes.
    """
    return Plan(
        add_addresses=tuple(sorted(set(wanted_ips) - set(present_ips))),
        open={at: route for at, route in sorted(desired.items()) if at not in actual},
        retarget={
            at: route
            for at, route in sorted(desired.items())
            if at in actual and actual[at] != route
        },
        close=tuple(sorted(set(actual) - set(desired))),
        remove_addresses=tuple(sorted(set(present_ips) - set(wanted_ips) - set(busy_ips))),
    )


def published_names(listeners: Listeners) -> dict[str, str]:
    """The names that may stand in the hosts file: those that answer there on their own port."""
    names: dict[str, str] = {}
    for at, route in sorted(listeners.items()):
        to = route.target
        if at.port == to.port:
            names.setdefault(to.hostname, LOOPBACK_IP if at.ip == ANY_IP else at.ip)
    return names
