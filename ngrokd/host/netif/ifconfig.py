"""The command lines for Linux's `ifconfig`, and what its answers mean: of net-tools and BusyBox.

Pure. Each endpoint address is an alias with a label of its own, which is what `ifconfig` removes an
address by: `ngrokd0:2` is the address of that number in the subnet, in base 36.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from ngrokd.host.netif.scene import Need, Way, gateway

MAX_LABEL = 15  # IFNAMSIZ is 16 with the final NUL; more is cut off without a word

SHOW_ALL = ["ifconfig", "-a"]
SHOW_ROUTES = ["route", "-n"]

# net-tools: `lo:a: flags=73<...`; BusyBox, and net-tools before 2.0: `lo:a      Link encap:...`.
_HEAD = re.compile(r"(?P<label>\S+?):?\s+(?:flags=|Link encap:)")
_INET = re.compile(r"\s+inet (?:addr:)?(?P<ip>[0-9.]+)(?P<rest>.*)")
_MASK = re.compile(r"(?:netmask |Mask:)(?P<mask>[0-9.]+)")
_INET6 = re.compile(r"\s+inet6 (?:addr: )?(?P<ip>[0-9a-fA-F:.]+)(?:/|\s+prefixlen )(?P<length>\d+)")

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def up(name: str, ip: str, length: int) -> list[str]:
    """Gives the interface its first address, and its addresses are reachable from then on."""
    mask = str(ipaddress.IPv4Network((0, length)).netmask)
    return ["ifconfig", name, ip, "netmask", mask, "up"]


def add(label: str, ip: str) -> list[str]:
    """One more address; one that has this label already is no fault."""
    return ["ifconfig", label, ip, "netmask", "255.255.255.255"]


def remove(label: str) -> list[str]:
    """Removes the address of this label: the interface stays up, unless the label is its name."""
    return ["ifconfig", label, "down"]


def remove_first(name: str) -> list[str]:
    """Removes the address that has no label of its own; the interface stays up."""
    return ["ifconfig", name, "0.0.0.0"]


def label_of(name: str, ip: str, network: ipaddress.IPv4Network) -> str:
    """The label of an endpoint address on the interface `name`."""
    number = int(ipaddress.IPv4Address(ip)) - int(network.network_address)
    return f"{name}:{_in_base_36(number)}"


def longest_label(name: str, network: ipaddress.IPv4Network) -> str:
    """Of all that `label_of` gives."""
    return label_of(name, str(network.broadcast_address), network)


def held_addresses(answer: str) -> dict[str, list[str]]:
    """Every interface that an answer of SHOW_ALL lists, with its addresses.

    IPv6 link-local ones are left out. Of several with the same label only the first is shown.
    """
    held: dict[str, list[str]] = {}
    name = ""
    for line in answer.splitlines():
        head = _HEAD.match(line)
        if head:
            name = head["label"].partition(":")[0]
            held.setdefault(name, [])
            continue
        text = _address(line)
        if text and name and not text.lower().startswith("fe80:"):
            held[name].append(text)
    return held


def ways(answer: str) -> Iterator[Way]:
    """Every route that an answer of SHOW_ROUTES lists."""
    for line in answer.splitlines():
        words = line.split()
        if len(words) != 8 or "!" in words[3]:
            continue
        try:
            yield Way(ipaddress.IPv4Network((words[0], words[2]), strict=False), words[7])
        except ValueError:  # the head of the table
            continue


def gateways(answer: str) -> Iterator[Need]:
    """Every address that a route in an answer of SHOW_ROUTES leads over."""
    for line in answer.splitlines():
        words = line.split()
        if len(words) == 8 and "G" in words[3] and "!" not in words[3]:
            yield gateway(words[1], words[7])


def _address(line: str) -> str:
    found = _INET.match(line)
    if found:
        mask = _MASK.search(found["rest"])
        return f"{found['ip']}/{_length(mask['mask'])}" if mask else found["ip"]
    found = _INET6.match(line)
    return f"{found['ip']}/{found['length']}" if found else ""


def _length(mask: str) -> str:
    try:
        return str(ipaddress.IPv4Network((0, mask)).prefixlen)
    except ValueError:  # one with holes: nobody's route can be told from it
        return "32"


def _in_base_36(number: int) -> str:
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits
