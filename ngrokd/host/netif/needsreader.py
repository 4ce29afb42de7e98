"""Adds the name servers to what a reader sees: a subnet of ours must not hide one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from ngrokd.host import files, resolvconf
from ngrokd.host.netif.scene import Need, Reader, Scene

# The second has those whom systemd-resolved asks, for whom the first has its stub.
PATHS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class NeedsReader:
    """Owner: main. Each look reads the files anew: they are small, and nothing tells of a change.
    """

    def __init__(self, reader: Reader, paths: Sequence[Path] = PATHS) -> None:
        self._reader = reader
        self._paths = paths
        self._seen: Optional[Scene] = None  # by the reader, and what was made of it
        self._needs: tuple[Need, ...] = ()
        self._scene = Scene()

    def look(self) -> Scene:
        seen, needs = self._reader.look(), tuple(self._name_servers())
        if seen is not self._seen or needs != self._needs:
            self._seen, self._needs = seen, needs
            self._scene = dataclasses.replace(seen, needs=(*seen.needs, *needs))
        return self._scene

    def close(self) -> None:
        self._reader.close()

    def _name_servers(self) -> Iterator[Need]:
        for path in self._paths:
            for ip in resolvconf.servers(files.text_of(path)):
                yield Need(ip, f"a name server of {path}")
