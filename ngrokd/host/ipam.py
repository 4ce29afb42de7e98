"""Which address belongs to which hostname. Pure."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Optional

from ngrokd.host.slots import Slots, share_out

# Taken on many machines: localhost, the two stubs of systemd-resolved, Debian's own host name.
_LOOPBACK_IN_USE = frozenset(
    int(ipaddress.IPv4Address(ip)) for ip in ("127.0.0.1", "127.0.0.53", "127.0.0.54", "127.0.1.1")
)

# As they are written, and only like this: `010` is no part of an address.
_PARTS: Mapping[str, int] = MappingProxyType({str(number): number for number in range(256)})

# Names that are gone are kept by the million in a subnet of /8, if nobody forgets them: each poll
# would compare them all, and the file outgrow what is read of it. Those that are there always stay.
MOST_REMEMBERED = 1 << 17


@dataclass(frozen=True)
class Assignment:
    """`addresses` of the hostnames asked for; `remembered` is what to save, its order included."""

    addresses: Mapping[str, str]
    remembered: Mapping[str, str]
    failed: Mapping[str, str]  # hostname: why it has no address


def gateway(subnet: str) -> str:
    """The interface's own address: the first of the subnet."""
    return str(_network(subnet).network_address + 1)


def assign(
    hostnames: Iterable[str],
    remembered: Mapping[str, str],
    subnet: str,
    held: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Assignment:
    """One address per hostname, the same one for as long as the hostname is remembered.

    Of more than MOST_REMEMBERED the names that have been gone longest are forgotten. An address of
    another subnet is carried over by its host part where that is free, so a start on the
    loopback range and one on `net.subnet` do not shuffle the addresses. `held` are addresses that
    still lead somewhere under some names: no other hostname gets them, and those of several none.
    """
    network = _network(subnet)
    first = int(network.network_address)
    known = {
        name: number for name, ip in remembered.items() if (number := _number(ip)) is not None
    }
    spelled = {number: remembered[name] for name, number in known.items()}
    held = {ip: held[ip] for ip in usable(held, subnet)}
    keepers, unusable = _hold(known, held)
    slots = Slots(
        numbers=range(first + 2, int(network.broadcast_address)),
        unusable=_LOOPBACK_IN_USE.union(unusable),
        kept=keepers,
    )
    host_mask = int(network.hostmask)
    moved = {
        name: first + (number & host_mask)
        for name, number in known.items()
        if not slots.holds(number)
    }
    shares = share_out(hostnames, known, moved, slots)
    excess = max(len(shares.remembered) - max(MOST_REMEMBERED, len(shares.given)), 0)
    texts = {
        name: spelled.get(number) or _text(number)
        for name, number in itertools.islice(shares.remembered.items(), excess, None)
    }
    reason = (
        f"no address is left in {network}: all {len(shares.given)} are in use"
        f"{', and others still stand in the hosts file' if held else ''}; "
        "set net.subnet to a larger range"
    )
    return Assignment(
        addresses={name: texts[name] for name in shares.given},
        remembered=texts,
        failed=dict.fromkeys(shares.left_out, reason),
    )


def usable(ips: Iterable[str], subnet: str) -> frozenset[str]:
    """Those that `assign` could give."""
    network = _network(subnet)
    first, last = int(network.network_address) + 2, int(network.broadcast_address) - 1
    numbers = {ip: _number(ip) for ip in ips}
    return frozenset(
        ip
        for ip, number in numbers.items()
        if number is not None and first <= number <= last and number not in _LOOPBACK_IN_USE
    )


def _hold(
    known: dict[str, int], held: Mapping[str, Collection[str]]
) -> tuple[Collection[str], Collection[int]]:
    """Gives each name in `held` one of its addresses in `known`, and takes them from all others.

    Those names, and the addresses that nobody can be given.
    """
    every: set[int] = set()
    own: dict[str, list[int]] = {}
    for ip, names in held.items():
        number = _number(ip)
        if number is not None:
            every.add(number)
            if len(names) == 1:
                own.setdefault(next(iter(names)), []).append(number)
    kept = {name: known[name] if known.get(name) in of else min(of) for name, of in own.items()}
    for name in [name for name, number in known.items() if number in every]:
        if name not in kept:
            del known[name]
    known.update(kept)
    return kept.keys(), every.difference(kept.values())


def _network(subnet: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(subnet, strict=False)


def _number(ip: object) -> Optional[int]:
    """The address as a number; None for what a damaged file may hold instead."""
    if not isinstance(ip, str):
        return None
    try:  # `ipaddress` takes twice the time of all the rest of an unchanged poll
        first, second, third, fourth = ip.split(".")
        return _PARTS[first] << 24 | _PARTS[second] << 16 | _PARTS[third] << 8 | _PARTS[fourth]
    except (ValueError, KeyError):
        return None


def _text(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
