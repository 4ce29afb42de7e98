"""What one operating system does its own way with networks, and what earlier runs left word of."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

from ngrokd.config import NetSettings
from ngrokd.host.command import Runner
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.rehearsal import Rehearsal
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.watch import NetworkWatch


@dataclass(frozen=True)
class Past:
    """What helps to prove that something of this machine is ours.

    `known`: addresses that ngrokd remembers to have used; `folder`: the state folder, if any.
    """

    known: Collection[str] = ()
    folder: Optional[Path] = None


class System(Protocol):
    """It holds nothing, so it has no owner. Tests give another one than this machine's."""

    def open_reader(self, net: NetSettings, run: Runner) -> Reader:
        """What looks at interfaces, addresses and routes."""
        ...

    def prepare(self, net: NetSettings, run: Runner, reader: Reader, past: Past) -> Backend:
        """Makes or adopts the interface; where that fails, what comes nearest. Logs every step."""
        ...

    def rehearse(self, net: NetSettings, run: Runner, reader: Reader, past: Past) -> Rehearsal:
        """What `prepare` and the first addresses would be, as data; nothing is changed."""
        ...

    def would_remove(
        self, net: NetSettings, run: Runner, past: Past
    ) -> tuple[list[list[str]], list[str]]:
        """The commands of `remove_leftovers`, and what would stay. Raises HostError."""
        ...

    def remove_leftovers(self, net: NetSettings, run: Runner, past: Past) -> list[str]:
        """Removes what a dead daemon left, and makes nothing; one line for each thing removed.

        Raises HostError.
        """
        ...

    def open_watch(self, net: NetSettings) -> NetworkWatch:
        """Tells when a network comes that is not ours. Raises OSError where that is refused."""
        ...
