"""A machine and a forwarder in memory: they refuse what the real ones refuse."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Optional

from ngrokd.errors import BindError, HostError, InterfaceTaken, NoAddress, PortForbidden, StateError
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
from ngrokd.reconcile.desired import Remembered
from ngrokd.reconcile.plan import ANY_IP


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
        self.first_free = 1024  # for who is not root
        self.hidden_ports: frozenset[int] = frozenset()  # that no /proc tells of
        self.writes = 0
        self.closed = False
        self.binds = 0
        self.hosts_refused = False  # the last time
        self.meet: Callable[[str], None] = lambda call: None  # raises what a call is to raise

    def prepare(self, known: Collection[str] = ()) -> InterfaceStatus:
        self.meet("prepare")
        return InterfaceStatus("ngrokd0", self.subnet, InterfaceMode.DUMMY)

    def status(self) -> InterfaceStatus:
        self.meet("status")
        return InterfaceStatus("ngrokd0", self.subnet, InterfaceMode.DUMMY)

    def addresses(self) -> frozenset[str]:
        self.meet("addresses")
        if self.taken:
            raise InterfaceTaken("ngrokd0 is left as it is: it is no longer ours")
        if self.unreadable:
            raise HostError("`ip addr` cannot be run")
        return frozenset(self.present)

    def add_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        self.meet("add_addresses")
        wanted = set(ips)
        if self.taken:
            return dict.fromkeys(wanted, "ngrokd0 is no longer ours")
        assert not wanted & self.present, "an address is added twice"
        self.present |= wanted - self.refuse_addresses
        return dict.fromkeys(wanted & self.refuse_addresses, "RTNETLINK answers: no")

    def remove_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        self.meet("remove_addresses")
        gone = set(ips)
        assert gone <= self.present, "an address is removed that is not there"
        assert not {at for at in self.bound if at.ip in gone}, "an address is removed in use"
        assert not gone & set(self.names.values()), "a name leads out of this machine"
        self.present -= gone
        return {}

    def publish(self, names: Mapping[str, str]) -> bool:
        self.hosts_refused = True
        self.wanted = dict(names)
        self.meet("publish")
        if self.refuse_hosts:
            raise HostError("/etc/hosts is read-only")
        listening = {at.ip for at in self.bound}
        assert set(names.values()) <= listening | {"127.0.0.1"}, "a name leads nowhere"
        self.hosts_refused = False
        if dict(names) == self.names:
            return False
        self.names = dict(names)
        self.writes += 1
        return True

    def hosts(self) -> HostsStatus:
        problem = "/etc/hosts is read-only" if self.refuse_hosts else ""
        section = HostsSection("ngrokd managed section", self.wanted)
        standing = frozenset(self.names.items())
        return HostsStatus("/etc/hosts", section, not problem, problem, standing)

    def reserved_names(self, addresses: Mapping[str, str]) -> frozenset[str]:
        self.meet("reserved_names")
        return self.reserved

    def why_reserved(self, names: Iterable[str]) -> Mapping[str, str]:
        self.meet("why_reserved")
        return dict.fromkeys(names, "/etc/hosts maps it to 10.0.0.9")

    def bind(self, address: Address) -> socket.socket:
        self.meet("bind")
        self.binds += 1
        assert address not in self.bound, "bound twice"
        ours = address.ip in self.present
        if not ours and address.ip not in {"0.0.0.0", *self.interfaces.values()}:
            raise _bind_error(errno.EADDRNOTAVAIL, f"{address}: not an address of this machine")
        if address.port < self.first_free and not self.root:
            raise PortForbidden(f"{address}: only root may listen below {self.first_free}")
        if address in self.refuse_binds:
            raise _bind_error(errno.EADDRINUSE, f"{address}: in use by pid 1")
        of_any = Address(ANY_IP, address.port) in self.bound
        if of_any or (address.ip == ANY_IP and address.port in {at.port for at in self.bound}):
            raise _bind_error(errno.EADDRINUSE, f"{address}: in use by ourselves")
        self.bound.add(address)
        return FakeListener(address)  # type: ignore[return-value]

    def first_free_port(self) -> int:
        self.meet("first_free_port")
        return self.first_free

    def ports_in_use(self) -> frozenset[int]:
        self.meet("ports_in_use")
        return frozenset(at.port for at in self.bound | self.refuse_binds) - self.hidden_ports

    def interface_address(self, name: str) -> str:
        self.meet("interface_address")
        if name not in self.interfaces:
            raise NoAddress(f"there is no interface {name}")
        return self.interfaces[name]

    def close(self) -> None:
        self.names, self.present, self.closed = {}, set(), True


class FakeForwarder:
    """Keeps listeners as the real one would; closing one frees its address."""

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        self.listeners: dict[Address, Route] = {}
        self._ever: dict[str, set[Address]] = {}  # by its ip, where one was
        self.counted: dict[Target, Counters] = {}
        self.ended = False  # its thread: what still comes is closed

    def add_listener(self, listening: socket.socket, route: Route) -> None:
        assert isinstance(listening, FakeListener)
        if self.ended:
            self.machine.bound.discard(listening.address)
            return
        self.listeners[listening.address] = route
        self._ever.setdefault(listening.address.ip, set()).add(listening.address)
        self._assert_no_name_leads_to_anothers_at(listening.address.ip)

    def assert_no_name_leads_to_anothers(self) -> None:
        """Whatever the hosts file says, and whoever wrote it: to be asked after each poll."""
        for ip in {at.ip for at in self.listeners}:
            self._assert_no_name_leads_to_anothers_at(ip)

    def _assert_no_name_leads_to_anothers_at(self, ip: str) -> None:
        """An address of ours is one name's alone; on those of networks it is a matter of ports."""
        if ip.startswith("10."):
            open_now = [at for at in self._ever.get(ip, ()) if at in self.listeners]
            there = {self.listeners[at].target.hostname for at in open_now}
            named = {name for name, at in self.machine.names.items() if at == ip}
            assert len(there | named) <= 1, f"{named} lead to {there} at {ip}"

    def end(self) -> None:
        """As its thread does when it crashes."""
        self.ended = True
        self.machine.bound -= self.listeners.keys()
        self.listeners.clear()

    def retarget(self, address: Address, route: Route) -> None:
        assert address in self.listeners
        was = self.listeners[address].target.hostname
        if was != route.target.hostname:
            ip = "127.0.0.1" if address.ip == ANY_IP else address.ip
            assert self.machine.names.get(was) != ip, "a name leads to another one's endpoint"
        self.listeners[address] = route
        self._assert_no_name_leads_to_anothers_at(address.ip)

    def remove_listeners(self, addresses: Iterable[Address]) -> None:
        for address in () if self.ended else addresses:
            name = self.listeners.pop(address).target.hostname
            left = {route.target.hostname for route in self.listeners.values()}
            withdrawn = name in left or name not in self.machine.names
            assert withdrawn or self.machine.hosts_refused, "a name outlives its last listener"
            self.machine.bound.discard(address)

    def listening(self) -> Optional[frozenset[Address]]:
        return frozenset(self.listeners)

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
