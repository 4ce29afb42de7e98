"""The network of the Mac that `server` is: lo0 with its aliases."""

from __future__ import annotations

from collections.abc import Sequence

from ngrokd.host.command import CommandError


class Network:
    """A runner."""

    PROGRAMS = ("ifconfig",)

    def __init__(self) -> None:
        self._held = ["127.0.0.1"]

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        """Interprets one command line."""
        name, *words = argv
        assert name == "ifconfig", argv
        if words in (["-a"], ["lo0"]):
            lines = "".join(f"\tinet {ip} netmask 0xff000000 \n" for ip in self._held)
            return f"lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384\n{lines}"
        if words[:2] == ["lo0", "alias"]:
            self._held.append(words[2])
            return ""
        assert words[:2] == ["lo0", "-alias"], words
        if words[2] not in self._held:
            said = "ifconfig: ioctl (SIOCDIFADDR): Can't assign requested address\n"
            raise CommandError("`ifconfig`", 1, said)
        self._held.remove(words[2])
        return ""
