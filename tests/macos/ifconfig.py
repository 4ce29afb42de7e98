"""`ifconfig` of macOS: what its arguments do, in its order, and what it prints."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from tests.macos.kernel import Inet, Interface, Kernel, Refused

# Without the line `flags=`: what `ifconfig` shows of each kind besides the addresses.
BEFORE = {
    "loopback": ("options=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>",),
    "ether": ("options=6460<TSO4,TSO6,CHANNEL_IO,PARTIAL_CSUM,ZEROINVERT_CSUM>",
              "ether a4:83:e7:2b:1c:5d ",),
    "tunnel": (),
}  # fmt: skip
AFTER = {
    "loopback": ("nd6 options=201<PERFORMNUD,DAD>",),
    "ether": ("nd6 options=201<PERFORMNUD,DAD>", "media: autoselect", "status: active"),
    "tunnel": (),
}
FLAGS = {
    "loopback": (0x8048, "LOOPBACK,RUNNING,MULTICAST"),
    "ether": (0x8862, "BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST"),
    "tunnel": (0x8050, "POINTOPOINT,RUNNING,MULTICAST"),
}


def run(kernel: Kernel, words: Sequence[str]) -> str:
    """Its standard output. Raises Refused with what it says; fails on what it does not know."""
    if list(words) == ["-a"]:
        return "".join(map(shown, kernel.interfaces.values()))
    interface = kernel.interface(words[0])
    if len(words) == 1:
        return shown(interface)
    _change(kernel, interface, list(words[1:]))
    return ""


def shown(interface: Interface) -> str:
    """As macOS 13 prints it, with the blanks at the end of its lines."""
    bits, names = FLAGS[interface.kind]
    bits, names = (bits | 1, f"UP,{names}") if interface.up else (bits, names)
    lines = [*BEFORE[interface.kind], *map(_inet, interface.inets), *interface.inet6]
    body = "".join(f"\t{line}\n" for line in [*lines, *AFTER[interface.kind]])
    return f"{interface.name}: flags={bits:x}<{names}> mtu {interface.mtu}\n{body}"


def _inet(inet: Inet) -> str:
    network = ipaddress.IPv4Network(f"{inet.ip}/{inet.length}", strict=False)
    mask = f"netmask 0x{int(network.netmask):08x}"
    if inet.far:
        return f"inet {inet.ip} --> {inet.far} {mask} "
    if inet.ip.startswith("192.168."):
        return f"inet {inet.ip} {mask} broadcast {network.broadcast_address}"
    return f"inet {inet.ip} {mask} "


def _change(kernel: Kernel, interface: Interface, words: list[str]) -> None:
    """The loop of BSD's ifconfig.c: a word that is no parameter is the address, then its far end.

    An address without `alias` takes the place of the first one.
    """
    if words[0] == "inet":
        words = words[1:]
    given, length, alias, up = [], 0, 0, interface.up
    while words:
        word = words.pop(0)
        if word in ("alias", "-alias"):
            alias = 1 if word == "alias" else -1
        elif word in ("up", "down"):
            up = word == "up"
        elif word == "netmask":
            length = ipaddress.IPv4Network(f"0.0.0.0/{words.pop(0)}").prefixlen
        else:
            given.append(str(ipaddress.IPv4Address(word)))  # fails loudly on anything else
    assert len(given) <= 2, "ifconfig knows an address and its far end"
    if given and alias < 0:
        _said("SIOCDIFADDR", kernel.remove, interface, given[0])
    elif given:
        if not alias and interface.inets:
            _said("SIOCDIFADDR", kernel.remove, interface, "")
        far = given[1] if len(given) > 1 else "0.0.0.0"
        _said("SIOCAIFADDR", kernel.add, interface, Inet(given[0], length, far))
        up = True
    if up != interface.up:
        kernel._need_root()
        interface.up = up


def _said(request: str, act: object, *arguments: object) -> None:
    assert callable(act)
    try:
        act(*arguments)
    except Refused as exc:
        raise Refused(f"ioctl ({request}): {exc}") from exc
