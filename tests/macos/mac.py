"""One Mac: its kernel and the programs that ngrokd runs on it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Optional, cast

from ngrokd.host.command import CommandError
from ngrokd.host.netif import utunsocket
from ngrokd.host.netif.utunsocket import UtunSocket
from tests.macos import ifconfig, routing, shell
from tests.macos.controlsocket import ControlSocket, ioctl
from tests.macos.kernel import LOOPBACK, Kernel, Refused

Program = Callable[[list[str]], str]


class Mac:
    """A Runner. What it does not know, it fails on."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.ran: list[str] = []
        self.killed: set[str] = set()  # commands that do their work, and take too long for it
        self.route_says_done = False  # as before macOS 11, whatever came of it
        self.wires: dict[str, socket.socket] = {}  # by utun: what goes in and out of the kernel
        self.programs: dict[str, Program] = {
            "ifconfig": lambda words: ifconfig.run(self.kernel, words),
            "route": self._route,
            "netstat": self._netstat,
            "sysctl": self._sysctl,
        }

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        """Interprets one command line."""
        if list(argv) == ["/bin/sh", "-s"]:
            return shell.run(text, self._execute)
        assert text == "", "no input is expected"
        line = " ".join(argv)
        status, said = self._execute(list(argv))
        if status:
            cause = said.splitlines()[0]
            raise CommandError(f"`{line}`: {cause}", status, said)
        if line in self.killed:
            raise CommandError(f"`{line}`: did not end within 8 seconds; run it by hand to see why")
        return said

    def open_utun(self, number: int) -> UtunSocket:
        """As `utunsocket.open_utun` would on this machine."""

        def new_socket(family: int, kind: int, protocol: int) -> socket.socket:
            return cast(socket.socket, ControlSocket(self, family, kind, protocol))

        return utunsocket.open_utun(number, new_socket, ioctl)

    def lo0(self) -> list[str]:
        """Its addresses but 127.0.0.1."""
        inets = self.kernel.interfaces[LOOPBACK].inets
        return [each.ip for each in inets if each.ip != "127.0.0.1"]

    def connect_utun(self, unit: int) -> tuple[str, socket.socket]:
        """The kernel's part of connecting a control socket: name, and the other end of its wire."""
        name = self.kernel.make_utun(unit)
        inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.wires[name] = inside
        return name, outside

    def close_utun(self, name: str) -> None:
        """The kernel's part of the end of a control socket."""
        self.kernel.drop_utun(name)
        self.wires.pop(name).close()

    def _execute(self, argv: list[str]) -> tuple[int, str]:
        self.ran.append(" ".join(argv))
        program: Optional[Program] = self.programs.get(argv[0])
        assert program is not None, f"this Mac has no {argv[0]}"
        try:
            return 0, program(argv[1:])
        except Refused as exc:
            before = "ifconfig: " if argv[0] == "ifconfig" else ""
            return 1, f"{before}{exc}\n"

    def _route(self, words: list[str]) -> str:
        try:
            return routing.run(self.kernel, words)
        except Refused as exc:
            if self.route_says_done:
                return f"{str(exc).splitlines()[-1]}\n"
            raise

    def _netstat(self, words: list[str]) -> str:
        assert words == ["-rn", "-f", "inet"], words
        return routing.table(self.kernel)

    def _sysctl(self, words: list[str]) -> str:
        known = {"kern.bootsessionuuid": self.kernel.session, "kern.maxfilesperproc": "61440"}
        option, name = words
        assert option == "-n", words
        return f"{known[name]}\n"
