"""Judges this machine's side: interface, subnet, hosts file, resolver, listeners, limits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from ngrokd.control.answers import at, number, text, texts
from ngrokd.control.hostspage import OLDER
from ngrokd.doctor.daemon import Asked
from ngrokd.doctor.finding import Finding, Grade, failed, ok, skipped, warning
from ngrokd.model import Address

ANY_IP, LOOPBACK_IP = "0.0.0.0", "127.0.0.1"
VIRTUAL, LOOPBACK = "virtual", "loopback"
REFRESH = "ngrokctl refresh"
CLEANUP = "sudo ngrokd cleanup"
START_OR = "ngrokd start, which takes it over, or"
MANY_WAITING = 16  # clients that nobody has accepted; a daemon that is well takes them at once
FEW_LEFT = 64  # descriptors; a burst of clients takes two each
SHOWN = 5

_PORT = re.compile("[0-9]{1,5}")


@dataclass(frozen=True)
class InterfaceFacts:
    """What is there under our interface's name, and who else uses the subnet."""

    name: str
    subnet: str  # configured
    is_there: bool = False
    ips: frozenset[str] = frozenset()  # on it
    conflict: str = ""
    fault: str = ""  # why none of that is known
    # Of a loopback interface that has only what is given to it; None: it has its whole range.
    aliases: Optional[frozenset[str]] = None


@dataclass(frozen=True)
class HostsFacts:
    """Our section of the hosts file."""

    path: str
    is_the_resolvers: bool = True  # this machine's programs read this very file
    names: Mapping[str, str] = field(default_factory=dict)  # hostname: address
    fault: str = ""  # unreadable, or broken markers


@dataclass(frozen=True)
class Limits:
    """Open files of the daemon. `used` None: only its user can tell."""

    allowed: Optional[int]
    used: Optional[int] = None
    needed: int = 0  # by the daemon itself, beside any client


def published(asked: Asked) -> dict[str, str]:
    """What should stand in the hosts file, as the daemon tells: hostname to address."""
    names = {}
    for each in asked.endpoints:
        if at(each, "published") is True:
            ip = text(each, "ip")
            names[text(each, "hostname")] = LOOPBACK_IP if ip == ANY_IP else ip
    return names


def listeners(asked: Asked) -> frozenset[Address]:
    """Where something of ours should listen, as the daemon tells."""
    addresses = [text(each, "listen_address") for each in asked.endpoints]
    split = [address.rpartition(":") for address in addresses if address]
    return frozenset(Address(ip, int(port)) for ip, _, port in split if _PORT.fullmatch(port))


def of_interface(asked: Asked, seen: InterfaceFacts) -> Finding:
    """Each endpoint's address must be there."""
    if seen.fault:
        return skipped("interface", seen.fault)
    if asked.status is None:
        if seen.is_there and not asked.lives:
            what = f"{seen.name} is there, left by a daemon that is dead"
            return warning("interface", what, f"{START_OR} {CLEANUP}")
        return skipped("interface", "no daemon tells what should be there")
    if text(asked.status, "interface", "mode") == LOOPBACK:
        return _of_loopback(asked, seen)
    if not seen.is_there:
        return failed("interface", f"{seen.name} is gone", f"{REFRESH} (it is made again)")
    return _of_addresses(asked, seen.name, seen.ips)


def _of_loopback(asked: Asked, seen: InterfaceFacts) -> Finding:
    subnet = text(asked.status, "interface", "subnet")
    found = ok("interface", f"{subnet} needs no interface")
    if seen.aliases is not None:
        found = _of_addresses(asked, text(asked.status, "interface", "name"), seen.aliases)
    notes = texts(asked.status, "interface", "notes")
    if notes and found.grade is Grade.OK:
        return warning("interface", "\n".join([f"{subnet} is used", *notes]), "as it says")
    return found


def _of_addresses(asked: Asked, name: str, there: frozenset[str]) -> Finding:
    wanted = {
        text(each, "ip")
        for each in asked.endpoints
        if text(each, "listen_interface") == VIRTUAL and at(each, "local_listener") is True
    }
    missing = sorted(wanted - there)
    if missing:
        what = f"{name} lacks {len(missing)} of {len(wanted)} addresses: {_few(missing)}"
        return failed("interface", what, f"{REFRESH} (they are added again)")
    return ok("interface", f"{name} has all {len(wanted)} addresses")


def of_subnet(asked: Asked, seen: InterfaceFacts) -> Finding:
    """Nobody else may use it."""
    if seen.fault:
        return skipped("subnet", seen.fault)
    if not seen.conflict:
        return ok("subnet", f"nothing else on this machine uses {seen.subnet}")
    what = f"{seen.conflict}, which meets net.subnet {seen.subnet}"
    mend = "set net.subnet to a range that is free here, then: ngrokd restart"
    if text(asked.status, "interface", "mode") == LOOPBACK:
        return warning("subnet", f"{what}; addresses of the loopback range serve instead", mend)
    return failed("subnet", f"{what}: one of the two hides the other", mend)


def of_hosts(asked: Asked, seen: HostsFacts) -> Finding:
    """The file must hold exactly what is published."""
    lines = texts(asked.status, "hosts", "lines")
    if lines:  # the daemon may not write it
        problem = text(asked.status, "hosts", "problem") or f"{seen.path} cannot be written"
        more = int(number(asked.status, "hosts", "more_lines"))
        rest = [f"... {more} more: ngrokctl list --hosts"] if more else []
        mend = f"as it says, or add these lines to {seen.path}:"
        if at(asked.status, "hosts", "replace") is True:
            mend = f"as it says, or put these lines into {seen.path} in place of {OLDER}:"
        return failed("hosts file", problem, mend, [*lines, *rest])
    if at(asked.status, "hosts", "replace") is True:
        problem = text(asked.status, "hosts", "problem") or f"{seen.path} cannot be written"
        return failed("hosts file", problem, f"as it says, or remove {OLDER} from {seen.path}")
    if seen.fault:
        return failed("hosts file", seen.fault, "as it says")
    if asked.status is None:
        if seen.names and not asked.lives:
            what = f"{seen.path} has {len(seen.names)} names of a daemon that is dead"
            return warning("hosts file", what, f"{START_OR} {CLEANUP}")
        return skipped("hosts file", "no daemon tells what should be there")
    wanted = published(asked)
    wrong = sorted(name for name, ip in wanted.items() if seen.names.get(name) != ip)
    stale = sorted(seen.names.keys() - wanted.keys())
    problem = text(asked.status, "hosts", "problem")  # another program takes them away again
    if problem:
        return (failed if wrong else warning)("hosts file", problem, "as it says")
    if wrong:
        lost = [name for name in wrong if name not in seen.names]
        what = f"lacks {_few(lost)}" if lost else f"has other addresses for {_few(wrong)}"
        return failed("hosts file", f"{seen.path} {what}", REFRESH)
    if stale:
        return failed("hosts file", f"{seen.path} still has {_few(stale)}", REFRESH)
    return ok("hosts file", f"{seen.path} has all {len(wanted)} names")


def of_resolver(
    hosts: HostsFacts, answers: Mapping[str, Optional[tuple[str, ...]]]
) -> Finding:
    """`answers`: what `getent hosts` says of some names; None: it could not be asked."""
    if not hosts.is_the_resolvers:
        return skipped("resolver", f"{hosts.path} is not what this machine's programs read")
    if not answers:
        return skipped("resolver", "no name is published")
    if None in answers.values():
        return skipped("resolver", "there is no `getent` to ask")
    for name, ips in answers.items():
        ours = hosts.names.get(name, "")
        if ips is not None and ours not in ips:
            said = f"`getent hosts {name}` says {', '.join(ips) or 'nothing'}"
            if not ours:
                return failed("resolver", f"{said}, and {hosts.path} lacks that name", REFRESH)
            mend = (
                "`files` must come first in the line `hosts:` of /etc/nsswitch.conf; where nscd"
                " runs: nscd -i hosts; systemd-resolved: resolvectl flush-caches"
            )
            what = f"{name} is {ours} in {hosts.path}, and {said}"
            return failed("resolver", what, mend)
    return ok("resolver", f"`getent hosts` finds {_few(list(answers))}")


def of_listeners(asked: Asked, waiting: Optional[Mapping[Address, int]]) -> Finding:
    """`waiting`: where something listens, and how many clients it has not taken yet."""
    if asked.status is None:
        return skipped("listeners", "no daemon tells what should listen")
    if waiting is None:
        return skipped("listeners", "this kernel does not tell what listens")
    wanted = listeners(asked)
    missing = sorted(str(at) for at in wanted if at not in waiting)
    if missing:
        return failed("listeners", f"nothing listens on {_few(missing)}", "ngrokd restart")
    slow = sorted(str(at) for at in wanted if waiting[at] > MANY_WAITING)
    if slow:
        what = f"clients wait to be taken on {_few(slow)}"
        return warning("listeners", what, "see the log, and `ngrokctl status` for the limits")
    return ok("listeners", f"all {len(wanted)} listen")


def of_limits(asked: Asked, limits: Limits) -> Finding:
    """Each endpoint takes one descriptor and each connection two."""
    if limits.allowed is None:
        return skipped("descriptors", "this kernel does not tell the limit")
    raise_it = "raise LimitNOFILE of the unit (`ulimit -n` elsewhere), then: ngrokd restart"
    full = [each for each in asked.endpoints if "descriptor limit" in text(each, "reason")]
    if full:
        what = f"{len(full)} endpoints have no listener: {text(full[0], 'reason')}"
        return failed("descriptors", what, "as it says")
    if limits.allowed < limits.needed:
        what = f"{limits.allowed} open files are fewer than the daemon itself needs"
        return failed("descriptors", what, raise_it)
    if limits.used is None:
        return ok("descriptors", f"up to {limits.allowed} open files")
    shown = f"{limits.used} of {limits.allowed} open files are in use"
    if limits.allowed - limits.used < FEW_LEFT:
        return warning("descriptors", shown, raise_it)
    return ok("descriptors", shown)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
