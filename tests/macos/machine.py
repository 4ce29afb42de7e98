"""ngrokd's Machine on a Mac in memory, which has it listen on its own addresses alone."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from ngrokd.config import NetSettings
from ngrokd.errors import BindError
from ngrokd.host.machine import Machine
from ngrokd.host.netif.darwin import DarwinSystem
from ngrokd.model import Address
from tests.fakes import FakeListener
from tests.macos.mac import Mac


class MacMachine(Machine):
    """The real one, but for its kernel; `FakeForwarder` looks at `bound` and `names`."""

    def __init__(self, mac: Mac, net: NetSettings, state: Path) -> None:
        super().__init__(net, mac, DarwinSystem(mac.open_utun), state)
        self._mac = mac
        self.bound: set[Address] = set()
        self.names: dict[str, str] = {}

    def publish(self, names: Mapping[str, str]) -> bool:
        for ip in names.values():
            assert self._mac.kernel.holds(ip), "a name leads out of this machine"
        written = super().publish(names)
        self.names = dict(names)
        return written

    def remove_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        gone = set(ips)
        assert not gone & set(self.names.values()), "a name leads out of this machine"
        assert not gone & {at.ip for at in self.bound}, "somebody listens there"
        return super().remove_addresses(gone)

    def ports_in_use(self) -> frozenset[int]:
        return frozenset()

    def bind(self, address: Address) -> socket.socket:
        assert address not in self.bound, "bound twice"
        if not self._mac.kernel.holds(address.ip):
            raise BindError(f"{address}: Can't assign requested address")
        self.bound.add(address)
        return FakeListener(address)  # type: ignore[return-value]
