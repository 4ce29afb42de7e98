"""What runs that did not end cleanly have left, as far as a start removes it first."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ngrokd.config import Config, NetSettings
from ngrokd.errors import HostError
from ngrokd.host import files, hosts, lastrun, leftovers, orphans
from ngrokd.host.netif.scene import Reader, Scene
from ngrokd.memory import Memory
from ngrokd.verbs.cleanup import Means


@dataclass(frozen=True)
class Left:
    """`would`: lines of a shell that remove it; `stays`: what is not removed, and why."""

    would: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    interfaces: frozenset[str] = frozenset()  # that go
    names: frozenset[str] = frozenset()  # that stand in sections alone which go


def look(config: Config, known: frozenset[str], means: Means) -> Left:
    """`known`: addresses that ngrokd remembers to have used. Nothing is changed."""
    folder, net = config.state_folder, config.net
    path = Path(net.hosts_file)
    would, stays, gone = leftovers.half_written(path, folder), [], []
    for old in lastrun.earlier(folder, net):
        commands, left = leftovers.look(
            old, known, means.run, folder, means.flush, means.system
        )
        would += commands
        stays += left
        gone += [] if left else [old]
    would += orphans.look(path)
    halves = [*files.orphans(folder / lastrun.NAME), *Memory(folder).orphans()]
    would += [f"rm {shlex.quote(str(orphan))}" for orphan in halves]
    return Left(
        tuple(dict.fromkeys(would)),  # several may be of one hosts file
        tuple(dict.fromkeys(stays)),
        frozenset(old.interface_name for old in gone),
        _freed(net, gone),
    )


def _freed(net: NetSettings, gone: Sequence[NetSettings]) -> frozenset[str]:
    marker = hosts.marker_of(net.interface_name)
    with contextlib.suppress(OSError, ValueError, HostError):  # whoever writes the names tells it
        content = without = files.read_regular(Path(net.hosts_file))
        for old in gone:
            if old.hosts_file == net.hosts_file:
                without = hosts.render(without, {}, hosts.marker_of(old.interface_name))
        return hosts.reserved(content, marker) - hosts.reserved(without, marker)
    return frozenset()


class Cleared:
    """The machine as it is once these interfaces have gone. Owner: main."""

    def __init__(self, reader: Reader, interfaces: frozenset[str]) -> None:
        self._reader = reader
        self._interfaces = interfaces
        self._seen = self._cleared = Scene()

    def look(self) -> Scene:
        """The very same object while nothing has changed. Raises HostError."""
        seen = self._reader.look()
        if seen is not self._seen:
            self._seen, self._cleared = seen, seen.without(self._interfaces)
        return self._cleared

    def close(self) -> None:
        """Of who opened the reader."""
