"""A program: ngrokd in the foreground, or its `cleanup`, on the Mac that a test serves.

python3 -m tests.macos.daemon SERVED-AT CONFIG run|cleanup
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from ngrokd import configfile, logs
from ngrokd.config import NetSettings
from ngrokd.daemon import Daemon
from ngrokd.errors import BindError
from ngrokd.host.machine import Machine
from ngrokd.host.netif.darwin import DarwinSystem
from ngrokd.host.netif.watch import NetworkWatch
from ngrokd.model import Address
from ngrokd.verbs import cleanup
from tests.macos.remote import RemoteMac


@dataclass(frozen=True)
class System(DarwinSystem):
    """Without news of networks: what tells them is a socket of macOS's."""

    def open_watch(self, net: NetSettings) -> NetworkWatch:
        raise OSError("no routing socket here")


class OnMac(Machine):
    """Listens where the Mac has an address; where Linux has one all the same, it says no."""

    def __init__(self, mac: RemoteMac, net: NetSettings, state: Path) -> None:
        super().__init__(net, mac, System(mac.open_utun), state)
        self._mac = mac

    def bind(self, address: Address) -> socket.socket:
        if address.ip != "0.0.0.0" and not self._mac.holds(address.ip):
            raise BindError(f"{address} cannot be listened on: Can't assign requested address")
        return super().bind(address)


def main(served_at: str, path: str, verb: str) -> int:
    """The exit status."""
    mac = RemoteMac(served_at)
    source = configfile.Source(Path(path), os.environ)
    config = source.load()
    if verb == "cleanup":
        means = cleanup.Means(mac, System(mac.open_utun))
        sys.stdout.write("".join(f"{line}\n" for line in cleanup.cleanup(config, means)))
        return 0
    assert verb == "run", verb
    logs.setup(config.server, True, os.environ)
    return Daemon(config, source, machine=OnMac(mac, config.net, config.state_folder)).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
