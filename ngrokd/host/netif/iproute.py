"""The command lines for `ip`, and what its answers mean: of iproute2 and of BusyBox. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from ngrokd.host.netif import links as marks
from ngrokd.host.netif.scene import SEVERAL, Need, Way, gateway

# They lead nowhere, so nobody loses anything to a subnet of ours.
_ROUTES_WITHOUT_USERS = frozenset(
    ("blackhole", "unreachable", "prohibit", "throw", "broadcast", "multicast", "anycast")
)

_NO_SUCH_DEVICE = re.compile(r"does not exist|(?:cannot|can't) find device", re.IGNORECASE)
_NOT_PERMITTED = re.compile(r"not permitted|permission denied", re.IGNORECASE)
_BATCH_LINE_FAILED = re.compile(r"Command failed -:([0-9]+)")

_LINK = re.compile(r"(?P<index>[0-9]+): (?P<name>[^\s:@]+)(?:@\S+)?: <(?P<flags>[^>]*)>")

BATCH = ["ip", "-force", "-batch", "-"]
SHOW_LINKS = ["ip", "-o", "link", "show"]
SHOW_ALL_ADDRESSES = ["ip", "-o", "addr", "show"]
SHOW_ROUTES = ["ip", "-o", "-4", "route", "show", "table", "all"]


@dataclass(frozen=True)
class Held:
    """One address of one interface, with its prefix length as in `10.107.0.1/16`."""

    interface: str
    text: str
    index: int = 0  # of the interface; the kernel gives it to no other while it runs

    @property
    def ip(self) -> str:
        return self.text.partition("/")[0]


def add_link(name: str, kind: str) -> list[str]:
    """A dummy or a bridge, marked as ours from its first moment.

    The kernel loads the module by itself where it has one.
    """
    return ["ip", "link", "add", name, "address", marks.MARK_ADDRESS, "type", kind]


def add_tun(name: str) -> list[str]:
    """A tun device that lives on without a reader: its own addresses are reachable all the same.

    With an owner, or any user who may open /dev/net/tun could read it, write to it and remove it.
    """
    owner = ["user", marks.MARK_OWNER, "group", marks.MARK_OWNER]
    return ["ip", "tuntap", "add", "dev", name, "mode", "tun", *owner]


def without_ipv6(name: str) -> list[str]:
    """Before `up`: no link-local address, no router solicitations into the void."""
    return ["ip", "link", "set", "dev", name, "addrgenmode", "none"]


def up(name: str) -> list[str]:
    """Its addresses are reachable from then on."""
    return ["ip", "link", "set", "dev", name, "up"]


def delete_link(name: str) -> list[str]:
    """Its addresses and routes go with it."""
    return ["ip", "link", "delete", "dev", name]


def replace_address(name: str, address: str) -> list[str]:
    """Adds `address`, as in `10.107.0.2/32`; one that is there already is no fault."""
    return ["ip", "address", "replace", address, "dev", name]


def delete_address(name: str, address: str) -> list[str]:
    """Removes `address`, with the prefix length it was added with."""
    return ["ip", "address", "del", address, "dev", name]


def as_batch(commands: list[list[str]]) -> str:
    """The input of BATCH that does what these commands do."""
    return "".join(" ".join(argv[1:]) + "\n" for argv in commands)


def batch_failures(stderr: str) -> dict[int, str]:
    """Index of each command that failed, with the reason, from what BATCH complained of."""
    failures: dict[int, str] = {}
    reason = ""
    for line in stderr.splitlines():
        found = _BATCH_LINE_FAILED.search(line)
        if found is None:
            reason = line.strip()
            continue
        failures[int(found[1]) - 1] = reason or "refused"
        reason = ""
    return failures


def is_missing(complaint: str) -> bool:
    """Whether `ip` says that there is no such interface."""
    return _NO_SUCH_DEVICE.search(complaint) is not None


def is_taken(complaint: str) -> bool:
    """Whether `ip` says that an interface of this name is there already."""
    return "File exists" in complaint


def is_busybox(complaint: str) -> bool:
    """Whether this is the help that BusyBox shows when it does not know a word."""
    return "BusyBox" in complaint


def complaint(stderr: str) -> str:
    """What went wrong, in one line; "" if nothing was said."""
    if is_busybox(stderr):
        return "BusyBox's `ip` cannot do that"
    return next((line.strip() for line in stderr.splitlines() if line.strip()), "")


def mend_for_making(complaint: str) -> str:
    """What a person can do where no kind of interface can be made."""
    if is_taken(complaint):
        return "set net.interface_name to another name; another program just made one of this name"
    if _NOT_PERMITTED.search(complaint):
        return "run ngrokd as root or with CAP_NET_ADMIN, or set net.subnet to 127.107.0.0/16"
    if is_busybox(complaint):
        return "install iproute2, or load the kernel's module: modprobe dummy"
    return "load one of the kernel's modules: modprobe dummy, modprobe tun, or modprobe bridge"


def links(answer: str) -> dict[int, str]:
    """Index and name of every interface that an answer of SHOW_LINKS lists."""
    found = (_LINK.match(line) for line in answer.splitlines())
    return {int(one["index"]): one["name"] for one in found if one}


def down(answer: str) -> frozenset[int]:
    """Index of every interface that an answer of SHOW_LINKS shows as set down."""
    found = (_LINK.match(line) for line in answer.splitlines())
    return frozenset(int(one["index"]) for one in found if one and "UP" not in _flags(one))


def _flags(found: re.Match[str]) -> list[str]:
    return found["flags"].split(",")


def held_addresses(answer: str) -> list[Held]:
    """Every address that an answer of `addr show` lists, IPv6 link-local ones left out."""
    held = []
    for line in answer.splitlines():
        words = line.split()
        if len(words) < 4 or words[2] not in ("inet", "inet6"):
            continue
        if not words[3].lower().startswith("fe80:"):
            held.append(Held(words[1].partition("@")[0], words[3], marks.index(line)))
    return held


def ways(answer: str) -> Iterator[Way]:
    """Every IPv4 route that an answer of SHOW_ROUTES lists, but the default one."""
    for line in answer.splitlines():
        words = line.split()
        kind = words[0] if words else ""
        if kind in _ROUTES_WITHOUT_USERS:
            continue
        where = words[1:2] if kind in ("local", "unicast", "nat") else words[:1]
        device = words[words.index("dev") + 1 :][:1] if "dev" in words else []
        network = _network(where[0]) if where else None
        if network is not None:
            yield Way(network, device[0] if device else SEVERAL)


def gateways(answer: str) -> Iterator[Need]:
    """Every IPv4 address that a route in an answer of SHOW_ROUTES leads over."""
    for line in answer.splitlines():
        words = line.split()
        for at, word in enumerate(words[:-1]):
            if word == "via" and _network(words[at + 1]) is not None:
                device = words[at + 3 : at + 4] if words[at + 2 : at + 3] == ["dev"] else []
                yield gateway(words[at + 1], device[0] if device else SEVERAL)


def _network(text: str) -> Optional[ipaddress.IPv4Network]:
    """None for `default`, IPv6, and words that are no address."""
    try:
        return ipaddress.IPv4Interface(text).network
    except ValueError:
        return None
