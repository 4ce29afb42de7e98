"""The network of the Mac that `server` is: that of `mac`, by its programs."""

from __future__ import annotations

from collections.abc import Sequence

from tests.macos.mac import Mac


class Network:
    """A runner."""

    PROGRAMS = ("ifconfig", "route", "netstat", "sysctl")

    def __init__(self) -> None:
        self._mac = Mac()

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        """Interprets one command line."""
        return self._mac(argv, text)
