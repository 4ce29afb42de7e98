"""The kernel of `fake_ip.py` on a machine that has only `ifconfig`: of net-tools or of BusyBox.

The answers have the words of net-tools 2.10 and of BusyBox 1.35, as seen on Debian 12.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from ngrokd.host.command import CommandError
from ngrokd.host.netif import linkprogram
from tests.fake_ip import FakeIp, Link


class FakeIfconfig:
    """A Runner. `kernel` is what `ip` would show and change, if it were there."""

    def __init__(self, kernel: FakeIp, busybox: bool = False) -> None:
        self.kernel = kernel
        self.busybox = busybox
        self.has_route = True
        self.ran: list[str] = []

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        """Interprets one command line."""
        assert text == "", "no input is expected"
        words = list(argv)
        self.ran.append(" ".join(words))
        if words[0] == "ip" or (words[0] == "route" and not self.has_route):
            raise CommandError(f"`{words[0]}`: there is no such program", was_started=False)
        if words == ["route", "-n"]:
            return self._routes()
        if words[3:4] == [linkprogram.__file__]:
            return self._program(words[4], words[5])
        assert words[0] == "ifconfig", f"the fake knows no {words[0]}"
        if words[1:] == ["-a"]:
            return "".join(self._shown())
        if not self.kernel.root:
            raise self._refused("SIOCSIFADDR: Operation not permitted")
        self._change(words[1], words[2:])
        return ""

    def index_of(self, name: str) -> int:
        """As if_nametoindex(3)."""
        if name not in self.kernel.links:
            raise OSError(f"no {name}")
        return self.kernel.links[name].index

    def _change(self, label: str, words: list[str]) -> None:
        name = label.partition(":")[0]
        assert len(label) <= 15, f"the kernel cuts {label} off"
        link = self.kernel.links.get(name)
        if link is None:
            raise self._refused("SIOCSIFADDR: No such device")
        if words == (["0.0.0.0"] if label == name else ["down"]):
            self._remove(link, label)
        else:
            assert words[1] == "netmask" and words[3:] in ([], ["up"]), words
            self._set(link, label, words)

    def _set(self, link: Link, label: str, words: list[str]) -> None:
        length = ipaddress.IPv4Network(f"0.0.0.0/{words[2]}").prefixlen
        assert link.kind == "tun", "another kind takes the whole class, until its mask is set"
        if words[0] in self.kernel.refused:
            raise self._refused("SIOCSIFADDR: No buffer space available")
        for text in [text for text, each in link.labels.items() if each == label]:
            link.held.remove(text)  # a label has one address
            del link.labels[text]
        text = f"{words[0]}/{length}"
        link.held.append(text)
        link.labels[text] = label
        link.up = link.up or words[3:] == ["up"]

    def _remove(self, link: Link, label: str) -> None:
        of_label = [text for text in link.held if link.labels.get(text) == label]
        if not of_label:
            raise self._refused("SIOCSIFFLAGS: Cannot assign requested address")
        link.held.remove(of_label[0])
        del link.labels[of_label[0]]

    def _program(self, verb: str, name: str) -> str:
        link = self.kernel.links.get(name)
        if verb == "make":
            if not self.kernel.root:
                raise self._refused("/dev/net/tun: Permission denied")
            if link is not None:
                raise self._refused("File exists")
            if "tun" not in self.kernel.kinds:
                raise self._refused("/dev/net/tun: No such file or directory")
            self.kernel.links[name] = Link("tun", marked=True)
            return ""
        if link is None:
            raise self._refused(f'Cannot find device "{name}"')
        if verb == "delete":
            if not self.kernel.root:
                raise self._refused("Operation not permitted")
            self.kernel.delete(name)
            return ""
        assert verb == "show", verb
        details = " type tun persist on" if link.kind == "tun" else ""
        details += " user 0 group 0" if link.marked else ""
        kind = "" if link.kind == "ethernet" else link.kind.rpartition(" ")[2]
        return f"{link.index}: {name}: <> \\    link/unknown  \\    {kind}{details} \n"

    def _shown(self) -> Iterator[str]:
        for name, link in self.kernel.links.items():
            by_label: dict[str, list[str]] = {name: []}
            for text in link.held:
                by_label.setdefault(link.labels.get(text, name), []).append(text)
            for label, texts in by_label.items():
                yield self._head(label)
                yield from (self._line(text) for text in texts[:1])  # the others it cannot see
                yield "\n"

    def _head(self, label: str) -> str:
        if self.busybox:
            return f"{label:<9} Link encap:UNSPEC  HWaddr 00-00-00-00-00-00-00-00  \n"
        return f"{label}: flags=4241<UP,POINTOPOINT,NOARP,MULTICAST>  mtu 1500\n"

    def _line(self, text: str) -> str:
        address = ipaddress.ip_interface(text)
        ip, length = address.ip, address.network.prefixlen
        if address.version == 6:
            return (
                f"          inet6 addr: {ip}/{length} Scope:Global\n"
                if self.busybox
                else f"        inet6 {ip}  prefixlen {length}  scopeid 0x0<global>\n"
            )
        if self.busybox:
            return f"          inet addr:{ip}  P-t-P:{ip}  Mask:{address.netmask}\n"
        return f"        inet {ip}  netmask {address.netmask}  destination {ip}\n"

    def _routes(self) -> str:
        lines = ["Kernel IP routing table"]
        lines.append("Destination Gateway Genmask Flags Metric Ref Use Iface")
        for line in self.kernel.routes:
            words = line.split()
            network = ipaddress.IPv4Network(words[0])
            device = words[words.index("dev") + 1]
            lines.append(f"{network.network_address} 0.0.0.0 {network.netmask} U 0 0 0 {device}")
        return "".join(f"{line}\n" for line in lines)

    def _refused(self, complaint: str) -> CommandError:
        return CommandError(f"`{self.ran[-1]}`: {complaint}", 1, f"{complaint}\n")
