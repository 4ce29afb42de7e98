"""Linux's own way with networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ngrokd.config import NetSettings
from ngrokd.host.command import Runner
from ngrokd.host.netif import leftovers, linux, linuxreader, linuxwatch, rehearsal
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.rehearsal import Rehearsal
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.system import Past
from ngrokd.host.netif.watch import NetworkWatch


@dataclass(frozen=True)
class LinuxSystem:
    """A System."""

    reader: Callable[[NetSettings, Runner], Reader] = linuxreader.open_reader

    def open_reader(self, net: NetSettings, run: Runner) -> Reader:
        return self.reader(net, run)

    def prepare(self, net: NetSettings, run: Runner, reader: Reader, past: Past) -> Backend:
        return linux.prepare(net, past.known, run, reader)

    def rehearse(self, net: NetSettings, run: Runner, reader: Reader, past: Past) -> Rehearsal:
        return rehearsal.of_linux(net, past.known, run, reader)

    def would_remove(
        self, net: NetSettings, run: Runner, past: Past
    ) -> tuple[list[list[str]], list[str]]:
        removal = leftovers.plan(net, past.known, run)
        if removal is None:
            return [], []
        return removal.commands, [removal.stays] if removal.stays else []

    def remove_leftovers(self, net: NetSettings, run: Runner, past: Past) -> list[str]:
        return leftovers.remove(net, past.known, run)

    def open_watch(self, net: NetSettings) -> NetworkWatch:
        return linuxwatch.open_watch(net)
