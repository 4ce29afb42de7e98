"""A machine and a forwarder in memory: they refuse what the real ones refuse."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Mapping
from typing import Optional

from ngrokd.desired import Remembered
from ngrokd.errors import BindError, HostError, InterfaceTaken, PortForbidden, StateError
from ngrokd.model import (
    Address,
    Counters,
    HostsSection,
    HostsStatus,
    InterfaceMode,
    InterfaceStatus,
    Route,
    Target,
)


class FakeListener:
    """Stands for a bound socket; knows where it is bound."""

    def __init__(self, address: Address) -> None:
        self.address = address


class FakeMachine:
    """A machine in memory. Owner: the test. `refuse...` are faults that the test injects."""

    def __init__(self, subnet: str = "10.107.0.0/16") -> None:
        self.subnet = subnet
        self.present: set[str] = set()
        self.names: dict[str, str] = {}
        self.wanted: dict[str, str] = {}  # names, also those that were refused
        self.bound: set[Address] = set()
        self.reserved: frozenset[str] = frozenset()
        self.interfaces = {"eth0": "192.168.7.1"}
        self.refuse_addresses: set[str] = set()
        self.refuse_binds: set[Address] = set()
        self.refuse_hosts = False
        self.unreadable = False
        self.taken = False
        self.root = True
        self.writes = 0
        self.closed = False

    def prepare(self) -> InterfaceStatus:
        return InterfaceStatus("ngrokd0", self.subnet, InterfaceMode.DUMMY)

    def status(self) -> InterfaceStatus:
        return self.prepare()

    def addresses(self) -> frozenset[str]:
        if self.taken:
            raise InterfaceTaken("ngrokd0 is left as it is: it is no longer ours")
        if self.unreadable:
            raise HostError("`ip addr` cannot be run")
        return frozenset(self.present)

    def add_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = set(ips)
        if self.taken:
            return dict.fromkeys(wanted, "ngrokd0 is no longer ours")
        assert not wanted & self.present, "an address is added twice"
        self.present |= wanted - self.refuse_addresses
        return dict.fromkeys(wanted & self.refuse_addresses, "RTNETLINK answers: no")

    def remove_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        gone = set(ips)
        assert gone <= self.present, "an address is removed that is not there"
        assert not {at for at in self.bound if at.ip in gone}, "an address is removed in use"
        self.present -= gone
        return {}

    def publish(self, names: Mapping[str, str]) -> bool:
        self.wanted = dict(names)
        if self.refuse_hosts:
            raise HostError("/etc/hosts is read-only")
        listening = {at.ip for at in self.bound}
        assert set(names.values()) <= listening | {"127.0.0.1"}, "a name leads nowhere"
        if dict(names) == self.names:
            return False
        self.names = dict(names)
        self.writes += 1
        return True

    def hosts(self) -> HostsStatus:
        problem = "/etc/hosts is read-only" if self.refuse_hosts else ""
        section = HostsSection("ngrokd managed section", self.wanted)
        return HostsStatus("/etc/hosts", section, not problem, problem)

    def reserved_names(self) -> frozenset[str]:
        return self.reserved

    def bind(self, address: Address) -> socket.socket:
        assert address not in self.bound, "bound twice"
        ours = address.ip in self.present
        if not ours and address.ip not in {"0.0.0.0", *self.interfaces.values()}:
            raise _bind_error(errno.EADDRNOTAVAIL, f"{address}: not an address of this machine")
        if address.port < 1024 and not self.root:
            raise PortForbidden(f"{address}: only root may listen below 1024")
        if address in self.refuse_binds:
            raise _bind_error(errno.EADDRINUSE, f"{address}: in use by pid 1")
        self.bound.add(address)
        return FakeListener(address)  # type: ignore[return-value]

    def interface_address(self, name: str) -> str:
        if name not in self.interfaces:
            raise HostError(f"no interface {name}")
        return self.interfaces[name]

    def close(self) -> None:
        self.names, self.present, self.closed = {}, set(), True


class FakeForwarder:
    """Keeps listeners as the real one would; closing one frees its address."""

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        self.listeners: dict[Address, Route] = {}
        self.counted: dict[Target, Counters] = {}

    def add_listener(self, listening: socket.socket, route: Route) -> None:
        assert isinstance(listening, FakeListener)
        self.listeners[listening.address] = route

    def retarget(self, address: Address, route: Route) -> None:
        assert address in self.listeners
        self.listeners[address] = route

    def remove_listeners(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            name = self.listeners.pop(address).target.hostname
            left = {route.target.hostname for route in self.listeners.values()}
            withdrawn = name in left or name not in self.machine.names
            assert withdrawn or self.machine.refuse_hosts, "a name outlives its last listener"
            self.machine.bound.discard(address)

    def counters(self) -> dict[Target, Counters]:
        return dict(self.counted)


class FakeMemory:
    """The state folder in memory; `full` makes every write fail."""

    def __init__(self, remembered: Optional[Remembered] = None) -> None:
        self.remembered = remembered or Remembered()
        self.full = False
        self.gone = False  # somebody removed the files

    def assignments(self) -> Remembered:
        return self.remembered

    def holds_assignments(self) -> bool:
        return not self.gone

    def save_assignments(self, remembered: Remembered) -> None:
        if self.full:
            raise StateError("ip_mappings.json cannot be written: no space left on device")
        self.remembered, self.gone = remembered, False


def _bind_error(number: int, text: str) -> BindError:
    error = BindError(text)
    error.__cause__ = OSError(number, text)
    return error
