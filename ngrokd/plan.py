"""What to do, in which order, to get from what is there to what should be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from ngrokd.model import Address, Route

ANY_IP = "0.0.0.0"  # a listener on every interface; the machine itself reaches it on loopback
LOOPBACK_IP = "127.0.0.1"

_BY_ADDRESS = attrgetter("ip", "port")

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
    if desired == actual:  # thousands, at most polls
        desired = actual = {}
    kept = set(desired).intersection(actual)
    return Plan(
        add_addresses=tuple(sorted(set(wanted_ips).difference(present_ips))),
        open=_in_order(desired, set(desired).difference(actual)),
        retarget=_in_order(desired, (at for at in kept if actual[at] != desired[at])),
        close=tuple(_in_order(actual, set(actual).difference(desired))),
        remove_addresses=tuple(sorted(set(present_ips).difference(wanted_ips, busy_ips))),
    )


def _in_order(listeners: Listeners, chosen: Iterable[Address]) -> Listeners:
    """Of `listeners`, those. By a key: comparing the values themselves takes five times as long."""
    return {at: listeners[at] for at in sorted(chosen, key=_BY_ADDRESS)}


def published_names(listeners: Listeners) -> dict[str, str]:
    """The names that may stand in the hosts file: those that answer there on their own port."""
    names: dict[str, str] = {}
    for at, route in _in_order(listeners, listeners).items():
        to = route.target
        if at.port == to.port:
            names.setdefault(to.hostname, LOOPBACK_IP if at.ip == ANY_IP else at.ip)
    return names
