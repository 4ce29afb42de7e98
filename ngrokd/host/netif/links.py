"""One interface as this machine shows it: what kind it is, and whether it bears our mark. Pure.

The mark is there from the moment the interface is made, so a crash leaves none without it: the
hardware address of a dummy or a bridge, which nobody else gives, and root as user and as group of
a tun device, which has no hardware address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ngrokd.model import InterfaceMode

MARK_ADDRESS = "02:6e:67:72:6f:6b"  # locally administered, and "ngrok"
MARK_OWNER = "0"

# What ngrokd makes, by the kernel's word for it.
KINDS = {
    mode.value: mode for mode in (InterfaceMode.DUMMY, InterfaceMode.TUN, InterfaceMode.BRIDGE)
}

_LINK = re.compile(r"[0-9]+: (?P<name>[^\s:@]+)(?:@(?P<below>[^\s:]+))?: <(?P<flags>[^>]*)>")
_OWNED = re.compile(r" user (?:root|0) group (?:root|0)\b")


@dataclass(frozen=True)
class Link:
    """One interface: `kind` is a word of KINDS, or another for what cannot be ours."""

    index: int
    kind: str
    is_marked: bool = False


def show(name: str) -> list[str]:
    """Shows one interface with its kind."""
    return ["ip", "-d", "-o", "link", "show", "dev", name]


def show_by_busybox(name: str) -> list[str]:
    """Shows one interface; BusyBox does not know `-d`."""
    return ["ip", "-o", "link", "show", "dev", name]


def of_iproute2(answer: str) -> Link:
    """The interface that an answer of `show` shows.

    A tun device counts only while it is persistent and carries no frames: without that it belongs
    to a program that reads it, or is a tap.
    """
    parts = [part.split() for part in answer.split("\\")]
    kinds = [words[0] for words in parts[2:] if words]
    kind = kinds[0] if kinds else _link_type(answer)
    if kind == "tun":
        if "type tap" in answer or "persist off" in answer:
            kind = "tun of another program"
        return Link(index(answer), kind, _OWNED.search(answer) is not None)
    return Link(index(answer), kind, _has_our_address(answer))


def of_busybox(answer: str) -> Link:
    """The same from `show_by_busybox`, which names no kind: by flags and link type.

    Nothing tells a bridge from a network card but the mark, and nothing whose a tun device is.
    """
    found = _LINK.match(answer)
    flags = set(found["flags"].split(",")) if found else set()
    kind = _link_type(answer)
    is_marked = _has_our_address(answer)
    if {"POINTOPOINT", "NOARP"} <= flags and kind in ("none", "[65534]"):
        kind = "tun"
    elif {"BROADCAST", "NOARP"} <= flags and kind == "ether":
        kind = "dummy"
    elif is_marked and "BROADCAST" in flags:
        kind = "bridge"
    return Link(index(answer), kind, is_marked)


def ports_of(answer: str, name: str) -> list[str]:
    """The interfaces that an answer of `ip -o link show` shows on the bridge `name`.

    Its ports, and a VLAN or macvlan, which would go with it.
    """
    ports = []
    for line in answer.splitlines():
        found = _LINK.match(line)
        words = line.partition("\\")[0].split()
        if found and (found["below"] == name or ("master", name) in zip(words, words[1:])):
            ports.append(found["name"])
    return ports


def index(answer: str) -> int:
    """0, which the kernel gives to none, where the answer does not begin with a number."""
    number = answer.partition(":")[0].strip()
    return int(number) if number.isdecimal() else 0


def _has_our_address(answer: str) -> bool:
    return f"link/ether {MARK_ADDRESS} " in answer


def _link_type(answer: str) -> str:
    found = re.search(r"link/(\S+)", answer)
    return found[1] if found else "unknown"
