"""The command lines for macOS's `ifconfig`, `route` and `netstat`, and what their answers mean.

Pure. By ifconfig(8), route(8) and netstat(1) of macOS.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.host.netif.scene import Need, Way, gateway

LOOPBACK = "lo0"

SHOW_ALL = ["ifconfig", "-a"]
SHOW_ROUTES = ["netstat", "-rn", "-f", "inet"]
# It has another value after each boot, which no alias outlives.
SHOW_BOOT = ["sysctl", "-n", "kern.bootsessionuuid"]

# `lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384`
_INTERFACE = re.compile(r"(?P<name>\S+): flags=[0-9a-f]+<(?P<flags>[^>]*)>")
# `	inet 10.107.0.1 --> 10.107.0.2 netmask 0xffff0000`
_INET = re.compile(
    r"\s+inet (?P<ip>[0-9.]+)(?: --> (?P<far>[0-9.]+))? netmask 0x(?P<mask>[0-9a-f]{8})"
)
_INET6 = re.compile(r"\s+inet6 (?P<ip>[0-9a-fA-F:.]+)(?:%\S+)? prefixlen (?P<length>\d+)")
_UTUN = re.compile(r"utun(?P<number>0|[1-9][0-9]{0,8})?")

# What `ifconfig` and `route` say of what is gone already.
_GONE = ("Can't assign requested address", "does not exist", "not in table")

_FORBIDDEN = ("permission denied", "Permission denied", "Operation not permitted")

# It is on standard output, and older versions exit with 0 all the same.
_ROUTE_REFUSED = re.compile(r"^(?:add|delete) net [^:]+: gateway [^:]+: (?P<why>.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Interface:
    """One that an answer of SHOW_ALL lists; addresses are as in `Scene`."""

    name: str
    is_up: bool
    texts: tuple[str, ...]


def show(name: str) -> list[str]:
    """Lists one interface with its addresses."""
    return ["ifconfig", name]


def strange(argv: list[str]) -> HostError:
    """Of an answer that tells nothing."""
    return HostError(
        f"`{' '.join(argv)}`: its answer is cut short or in a form that is not known; "
        "run it by hand to see it"
    )


def add_alias(ip: str) -> list[str]:
    """Gives lo0 one more address; one that it has already is no fault, and changes nothing.

    The words of the macOS guide. The second address is not the mask, by ifconfig(8), but the far
    end, of which loopback has none; each address of lo0 is a route to one host, whatever its mask.
    """
    return ["ifconfig", LOOPBACK, "alias", ip, "255.255.255.255"]


def remove_alias(ip: str) -> list[str]:
    """Takes an address from lo0."""
    return ["ifconfig", LOOPBACK, "-alias", ip]


def utun_number(name: str) -> Optional[int]:
    """Which utun `net.interface_name` asks for; -1: the first that is free; None: no utun."""
    found = _UTUN.fullmatch(name)
    if found is None:
        return None
    return -1 if found["number"] is None else int(found["number"])


def far_end(network: ipaddress.IPv4Network) -> str:
    """The other end of a utun: the second address of its subnet, which no endpoint gets."""
    return str(network.network_address + 2)


def utun_up(name: str, network: ipaddress.IPv4Network) -> list[str]:
    """Gives a utun its own address and its far end, and sets it up.

    An address that it has before is removed: see `utun_mend`.
    """
    own, mask = str(network.network_address + 1), str(network.netmask)
    return ["ifconfig", name, "inet", own, far_end(network), "netmask", mask, "up"]


def utun_mend(name: str, network: ipaddress.IPv4Network) -> list[str]:
    """The same beside the addresses that it has."""
    return [*utun_up(name, network)[:-1], "alias"]


def set_up(name: str) -> list[str]:
    """With the addresses that it has."""
    return ["ifconfig", name, "up"]


def utun_add(name: str, ip: str, network: ipaddress.IPv4Network) -> list[str]:
    """One more address, which is its own far end: without one it would have no route."""
    return ["ifconfig", name, "inet", ip, ip, "netmask", str(network.netmask), "alias"]


def utun_remove(name: str, ip: str) -> list[str]:
    """Takes an address from it."""
    return ["ifconfig", name, "inet", ip, "-alias"]


def add_route(name: str, network: ipaddress.IPv4Network) -> list[str]:
    """Leads a subnet into a utun."""
    return ["route", "add", "-net", str(network), "-interface", name]


def route_refusal(answer: str) -> str:
    """Why `route` did not do what its exit status may say that it did; "": it did."""
    found = _ROUTE_REFUSED.search(answer)
    return found["why"] if found else ""


def is_forbidden(complaint: str) -> bool:
    """Whether the command was refused because who ran it is not root."""
    return any(words in complaint for words in _FORBIDDEN)


def is_gone(complaint: str) -> bool:
    """Whether the command was refused because what it is to remove is not there."""
    return any(words in complaint for words in _GONE)


def interfaces(answer: str) -> list[Interface]:
    """Every interface that an answer of `show` or SHOW_ALL lists, in its order."""
    heads: list[tuple[str, bool]] = []
    held: list[list[str]] = []
    for line in answer.splitlines():
        head = _INTERFACE.match(line)
        if head:
            heads.append((head["name"], "UP" in head["flags"].split(",")))
            held.append([])
            continue
        text = _address(line)
        if text and held:
            held[-1].append(text)
    return [
        Interface(name, is_up, tuple(texts)) for (name, is_up), texts in zip(heads, held)
    ]


def loopback_ips(answer: str) -> Optional[frozenset[str]]:
    """The IPv4 addresses that an answer of `show(LOOPBACK)` lists; None: it is no whole one."""
    heads = [line for line in answer.splitlines() if line[:1].strip()]
    if len(heads) != 1 or not heads[0].startswith(f"{LOOPBACK}: flags="):
        return None
    if not answer.endswith("\n"):  # cut short
        return None
    inets = [line for line in answer.splitlines() if line.lstrip().startswith("inet ")]
    texts = list(map(_address, inets))
    return frozenset(text.partition("/")[0] for text in texts) if all(texts) else None


def ways(answer: str) -> Iterator[Way]:
    """Every route to a network that an answer of SHOW_ROUTES lists, but the default one."""
    for words in _routes(answer):
        network = _network(words[0])
        if network is not None and "H" not in words[2]:
            yield Way(network, words[3])


def gateways(answer: str) -> Iterator[Need]:
    """Every address that a route in an answer of SHOW_ROUTES leads over."""
    for words in _routes(answer):
        if "G" in words[2] and words[1].count(".") == 3:
            yield gateway(words[1], words[3])


def _routes(answer: str) -> Iterator[list[str]]:
    """Destination, gateway, flags, interface: before macOS 10.15, Refs and Use stand before that.
    """
    for line in answer.splitlines():
        words = line.split()
        if len(words) >= 6 and words[3].isdecimal() and words[4].isdecimal():
            del words[3:5]
        if len(words) >= 4 and words[0] != "Destination":
            yield words


def _network(text: str) -> Optional[ipaddress.IPv4Network]:
    """As netstat(1) writes it: without the zeros at its end, and without a class's own length."""
    dotted, slash, length = text.partition("/")
    parts = dotted.split(".")
    length = length if slash else str(8 * len(parts))
    try:
        return ipaddress.IPv4Network(".".join((parts + ["0"] * 4)[:4]) + f"/{length}")
    except ValueError:  # `default`, `link#4`, the head of the table
        return None


def _address(line: str) -> str:
    found = _INET.match(line)
    if found:
        if not _is_ip(found["ip"]):
            return ""
        if found["far"]:
            return found["ip"]
        return f"{found['ip']}/{bin(int(found['mask'], 16)).count('1')}"
    found = _INET6.match(line)
    if found and not found["ip"].lower().startswith("fe80:"):
        return f"{found['ip']}/{found['length']}"
    return ""


def _is_ip(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
