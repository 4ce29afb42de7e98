"""A kernel in small, seen through `ip`: it interprets argv and refuses what a kernel refuses.

`tests/fake_ifconfig.py` shows the same kernel to a machine that has only `ifconfig`.

The answers have the words of iproute2 6.1 and of BusyBox 1.35, as seen on Debian 12.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ngrokd.host.command import CommandError

BUSYBOX_HELP = (
    "BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.\n\n"
    "Usage: ip [OPTIONS] address|route|link|tunnel|neigh|rule [ARGS]\n"
)

MARK = "02:6e:67:72:6f:6b"
OWNED = " user root group root"

# Flags and link type, then what `-d` says of the kind.
_SHOWN = {
    "dummy": ("BROADCAST,NOARP", "ether 5e:7c:00:00:00:01", "dummy numtxqueues 1"),
    "tun": ("POINTOPOINT,MULTICAST,NOARP", "none", "tun type tun pi off persist on"),
    "vpn tun": ("POINTOPOINT,MULTICAST,NOARP", "none", "tun type tun pi off persist off"),
    "tap": ("BROADCAST,MULTICAST", "ether 5e:7c:00:00:00:02", "tun type tap pi off persist on"),
    "bridge": ("BROADCAST,MULTICAST", "ether 5e:7c:00:00:00:03", "bridge forward_delay 1500"),
    "ethernet": ("BROADCAST,MULTICAST", "ether 5e:7c:00:00:00:04", ""),
}


_next_index = itertools.count(2)  # as the kernel's: never given again


@dataclass
class Link:
    """One interface."""

    kind: str
    up: bool = False
    makes_ipv6: bool = True
    held: list[str] = field(default_factory=list)  # as in "10.107.0.2/32"
    marked: bool = False  # by ngrokd's hardware address, or by root as user and group
    master: str = ""  # the bridge that this is a port of
    labels: dict[str, str] = field(default_factory=dict)  # of addresses, by `ifconfig`
    index: int = field(default_factory=lambda: next(_next_index), compare=False)


class Refused(Exception):
    """What the kernel or `ip` says no with."""

    def __init__(self, complaint: str, status: int = 2) -> None:
        super().__init__(complaint)
        self.complaint = complaint
        self.status = status


class FakeIp:
    """A Runner. `kinds`: what can be made; `refused`: addresses that cannot be added."""

    def __init__(
        self,
        kinds: Collection[str] = ("dummy", "tun"),
        root: bool = True,
        busybox: bool = False,
    ) -> None:
        self.kinds = kinds
        self.root = root
        self.busybox = busybox
        self.refused: set[str] = set()
        self.links = {"lo": Link("ethernet", up=True, held=["127.0.0.1/8"])}
        self.routes: list[str] = []
        self.ran: list[str] = []

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        """Interprets one command line of `ip`."""
        self.ran.append(" ".join(argv))
        assert argv[0] == "ip", f"the fake knows no {argv[0]}"
        try:
            if list(argv[1:]) == ["-force", "-batch", "-"]:
                return self._batch(text)
            assert text == "", "only a batch has input"
            return self._one(list(argv[1:]))
        except Refused as exc:
            cause = exc.complaint.splitlines()[0]
            raise CommandError(f"`{self.ran[-1]}`: {cause}", exc.status, exc.complaint) from exc

    def _batch(self, text: str) -> str:
        if self.busybox:
            raise Refused(BUSYBOX_HELP, 1)
        complaints = ""
        for number, line in enumerate(text.splitlines(), 1):
            try:
                self._one(line.split())
            except Refused as exc:
                complaints += f"{exc.complaint}\nCommand failed -:{number}\n"
        if complaints:
            raise Refused(complaints, 1)
        return ""

    def _one(self, words: list[str]) -> str:
        while words[0] in ("-o", "-4"):
            words = words[1:]
        if words[0] == "-d":
            if self.busybox:
                raise Refused(BUSYBOX_HELP, 1)
            words = [word for word in words[1:] if word != "-o"]
            assert words[:3] == ["link", "show", "dev"]
            return self._show(words[3], details=True)
        if words[:3] == ["link", "show", "dev"]:
            return self._show(words[3], details=False)
        if words == ["link", "show"]:
            return "".join(self._show(name, details=False) for name in self.links)
        if words[:2] == ["addr", "show"]:
            assert words[2:3] in ([], ["dev"]), words
            return self._addresses(words[3:])
        if words == ["route", "show", "table", "all"]:
            return "".join(f"{line}\n" for line in self._routes())
        if not self.root:
            raise Refused("RTNETLINK answers: Operation not permitted")
        self._change(words)
        return ""

    def _change(self, words: list[str]) -> None:
        if words[:2] == ["link", "add"] and words[3:4] == ["address"] and words[5:6] == ["type"]:
            assert words[4] == MARK, words
            assert words[6:] in (["dummy"], ["bridge"]), words
            self._add(words[2], words[6], "Error: Unknown device type.")
        elif words[:3] == ["tuntap", "add", "dev"] and words[4:6] == ["mode", "tun"]:
            assert words[6:] == ["user", "0", "group", "0"], words
            self._add(words[3], "tun", BUSYBOX_HELP if self.busybox else "open: No such file")
        elif words[:3] == ["link", "set", "dev"]:
            self._set(self._link(words[3]), words[4:])
        elif words[:3] == ["link", "delete", "dev"] and len(words) == 4:
            self._link(words[3])
            self.delete(words[3])
        elif words[0] == "address" and words[3:4] == ["dev"] and len(words) == 5:
            self._address(words[1], words[2], self._link(words[4]))
        else:
            raise AssertionError(f"the fake does not know: ip {' '.join(words)}")

    def _set(self, link: Link, words: list[str]) -> None:
        if words == ["addrgenmode", "none"]:
            if self.busybox:
                raise Refused('ip: either "dev" is duplicate, or "addrgenmode" is garbage')
            link.makes_ipv6 = False
        else:
            assert words == ["up"], words
            link.up = True
            if link.makes_ipv6 and "fe80::1/64" not in link.held:
                link.held.append("fe80::1/64")

    def _address(self, verb: str, text: str, link: Link) -> None:
        ipaddress.IPv4Interface(text)
        assert "/" in text
        if verb == "replace":
            if text.partition("/")[0] in self.refused:
                raise Refused("RTNETLINK answers: No buffer space available")
            if text not in link.held:
                link.held.append(text)
        elif verb == "del":
            if text not in link.held:
                raise Refused("Error: ipv4: Address not found.")
            link.held.remove(text)
        else:
            raise AssertionError(f"the fake does not know: address {verb}")

    def _add(self, name: str, kind: str, otherwise: str) -> None:
        if kind not in self.kinds or "BusyBox" in otherwise:
            raise Refused(otherwise)
        if name in self.links:
            raise Refused("RTNETLINK answers: File exists")
        self.links[name] = Link(kind, marked=True)

    def delete(self, name: str) -> None:
        """A bridge's ports live on without it."""
        del self.links[name]
        for link in self.links.values():
            link.master = "" if link.master == name else link.master

    def _link(self, name: str) -> Link:
        if name not in self.links:
            if self.busybox:
                raise Refused(f"ip: can't find device '{name}'")
            raise Refused(f'Cannot find device "{name}"', 1)
        return self.links[name]

    def _show(self, name: str, details: bool) -> str:
        if name not in self.links and not self.busybox:
            raise Refused(f'Device "{name}" does not exist.', 1)
        link = self._link(name)
        flags, link_type, kind = _SHOWN[link.kind]
        flags += ",UP,LOWER_UP" if link.up else ""
        if link.marked and link_type.startswith("ether"):
            link_type = f"ether {MARK}"
        elif link.marked:
            kind += OWNED
        master = f" master {link.master}" if link.master else ""
        if self.busybox and link_type == "none":
            link_type = "[65534]"
        shown = f"{link.index}: {name}: <{flags}> mtu 1500 qdisc noqueue{master}\\    "
        shown += f"link/{link_type} brd ff:ff:ff:ff:ff:ff"
        if details:
            shown += " promiscuity 0  allmulti 0 minmtu 0 maxmtu 0 "
            shown += f"\\    {kind} " if kind else "numtxqueues 1 "
        return shown + "\n"

    def _addresses(self, names: list[str]) -> str:
        if names:
            self._link(names[0])
        lines = ""
        for name, link in self.links.items():
            for text in link.held if not names or name in names else ():
                family = "inet6" if ":" in text else "inet"
                lines += f"{link.index}: {name}    {family} {text} scope global {name}\\   valid\n"
        return lines

    def _routes(self) -> list[str]:
        lines = list(self.routes)
        for name, link in self.links.items():
            for text in link.held:
                if ":" in text:
                    continue
                address = ipaddress.IPv4Interface(text)
                lines.append(f"local {address.ip} dev {name} table local proto kernel scope host")
                if link.up and address.network.prefixlen < 32:
                    lines.append(f"{address.network} dev {name} proto kernel scope link")
        return lines
