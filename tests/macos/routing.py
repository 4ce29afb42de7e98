"""`route` and `netstat` of macOS."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from tests.macos.kernel import Kernel, Refused, Route, class_length

MUST_BE_ROOT = "route: must be root to alter routing table"
COLUMNS = "{:<18} {:<18} {:<15} {:>5} {}\n"
HEAD = "Routing tables\n\nInternet:\n"


def run(kernel: Kernel, words: Sequence[str]) -> str:
    """Standard output of `route add|delete -net NETWORK -interface NAME`.

    Raises Refused with its two outputs.
    """
    verb, sort, to, how, name = words
    assert verb in ("add", "delete") and (sort, how) == ("-net", "-interface"), words
    network = ipaddress.IPv4Network(to)
    if not kernel.root:
        raise Refused(MUST_BE_ROOT)
    if name not in kernel.interfaces:
        raise Refused(f"route: bad address: {name}")
    line = f"{verb} net {network.network_address}: gateway {name}"
    try:
        if verb == "add":
            kernel.add_route(Route(network, name))
        else:
            kernel.remove_route(network)
    except Refused as exc:
        raise Refused(f"route: writing to routing socket: {exc}\n{line}: {exc}") from exc
    return f"{line}\n"


def table(kernel: Kernel) -> str:
    """What `netstat -rn -f inet` prints, since macOS 10.15: no references, no uses."""
    rows = (("Destination", "Gateway", "Flags", "Netif", "Expire"), *_rows(kernel))
    return HEAD + "".join(COLUMNS.format(*row) for row in rows)


def written(network: ipaddress.IPv4Network) -> str:
    """As netname() does: no zero bytes at the end, and no length where the class says it."""
    if network.prefixlen == 0:
        return "default"
    bytes_of = str(network.network_address).split(".")
    while len(bytes_of) > max(1, (network.prefixlen + 7) // 8):
        bytes_of.pop()
    own = class_length(str(network.network_address)) == network.prefixlen
    return ".".join(bytes_of) + ("" if own else f"/{network.prefixlen}")


def _rows(kernel: Kernel) -> Iterator[tuple[str, str, str, str, str]]:
    for to, over, flags, name in _routes(kernel):
        yield to, over, flags, name, ""


def _routes(kernel: Kernel) -> Iterator[tuple[str, str, str, str]]:
    yield "default", "192.168.1.1", "UGScg", "en0"
    yield "127", "127.0.0.1", "UCS", "lo0"
    yield "169.254", "link#4", "UCS", "en0"
    yield "192.168.1", "link#4", "UCS", "en0"
    yield "192.168.1.1/32", "link#4", "UCS", "en0"
    yield "192.168.1.1", "20:c0:47:f2:b5:8e", "UHLWIir", "en0"
    yield "224.0.0/4", "link#4", "UmCS", "en0"
    yield "255.255.255.255/32", "link#4", "UCS", "en0"
    for interface in kernel.interfaces.values():
        for inet in interface.inets:
            if interface.kind == "loopback":
                yield inet.ip, inet.ip, "UH", interface.name
            elif inet.far not in ("", "0.0.0.0"):
                yield inet.far, inet.ip, "UH", interface.name
    for route in kernel.routes:
        over, flags = (route.gateway, "UGSc") if route.gateway else (route.name, "USc")
        yield written(route.network), over, flags, route.name
