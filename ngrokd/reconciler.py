"""Makes this machine what the last good poll says it should be, and knows what is now true."""

from __future__ import annotations

import errno
import ipaddress
import logging
import sys
from collections.abc import Iterable, Mapping
from socket import socket
from typing import Optional, Protocol

from ngrokd import outcome
from ngrokd import plan as planning
from ngrokd.config import NetSettings
from ngrokd.desired import VIRTUAL, Desired, Facts, Remembered, desire, listen_interface
from ngrokd.errors import BindError, HostError, InterfaceTaken, PortForbidden, StateError
from ngrokd.model import (
    Address,
    Counters,
    Discovered,
    EndpointState,
    EndpointStatus,
    HostsStatus,
    InterfaceStatus,
    Route,
    Target,
)
from ngrokd.outcome import Actual, Change
from ngrokd.plan import Listeners

logger = logging.getLogger(__name__)

TOO_MANY = "the descriptor limit allows {} listeners: raise LimitNOFILE or `ulimit -n`"
BIND_ROUNDS = 3  # a refused low port, then a taken network port, each change the decision once


class Machine(Protocol):
    """The part of `host.machine.Machine` that is needed here."""

    def prepare(self) -> InterfaceStatus: ...
    def status(self) -> InterfaceStatus: ...
    def addresses(self) -> frozenset[str]: ...
    def add_addresses(self, ips: Iterable[str]) -> dict[str, str]: ...
    def remove_addresses(self, ips: Iterable[str]) -> dict[str, str]: ...
    def publish(self, names: Mapping[str, str]) -> bool: ...
    def hosts(self) -> HostsStatus: ...
    def reserved_names(self) -> frozenset[str]: ...
    def bind(self, address: Address) -> socket: ...
    def interface_address(self, name: str) -> str: ...
    def close(self) -> None: ...


class Forwarder(Protocol):
    """The part of `forward.forwarder.Forwarder` that is needed here."""

    def add_listener(self, listening: socket, route: Route) -> None: ...
    def retarget(self, address: Address, route: Route) -> None: ...
    def remove_listeners(self, addresses: Iterable[Address]) -> None: ...
    def counters(self) -> dict[Target, Counters]: ...


class Memory(Protocol):
    """The part of `memory.Memory` that is needed here."""

    def assignments(self) -> Remembered: ...
    def save_assignments(self, remembered: Remembered) -> None: ...
    def holds_assignments(self) -> bool: ...


class Reconciler:
    """Owner: main thread. Actual state is what it opened itself and what the machine shows."""

    def __init__(
        self,
        machine: Machine,
        forwarder: Forwarder,
        memory: Memory,
        max_listeners: int = sys.maxsize,
    ) -> None:
        """`max_listeners`: what the descriptor limit allows; more endpoints than that fail."""
        self._max_listeners = max_listeners
        self._machine = machine
        self._forwarder = forwarder
        self._memory = memory
        self._remembered = Remembered()
        self._open: dict[Address, Route] = {}
        self._present: frozenset[str] = frozenset()  # addresses on the interface, as last seen
        self._names: dict[str, str] = {}  # what the hosts file has of ours; {} if it refused
        self._low_ports_forbidden = False
        self._taken_ports: frozenset[int] = frozenset()
        self.interface: Optional[InterfaceStatus] = None
        self.endpoints: tuple[EndpointStatus, ...] = ()
        self.failed = 0  # of them; asked for after every message, so it is counted beforehand
        self.problems: tuple[str, ...] = ()
        self.hosts: Optional[HostsStatus] = None
        self.hosts_writes = 0

    def recall(self) -> None:
        """Takes up the assignments of the last run."""
        self._remembered = self._memory.assignments()

    def prepare(self) -> InterfaceStatus:
        """Makes or adopts the interface. Raises HostError: another daemon has it, by name."""
        self.interface = self._machine.prepare()
        return self.interface

    def apply(self, discovered: Discovered, net: NetSettings, loops: Iterable[str]) -> Change:
        """One complete answer of the API becomes listeners and names.

        A listener that the machine refuses costs only its own endpoint and is tried again at the
        next call.
        """
        assert self.interface is not None, "prepare() comes first"
        problems: list[str] = []
        self._look_at_the_interface(problems)
        failed: dict[Target, str] = {}
        self._taken_ports = frozenset()
        for _ in range(BIND_ROUNDS):
            desired = desire(discovered, net, self._facts(discovered, net, loops), self._remembered)
            self._remember(desired.remembered, problems)
            decided_again = self._converge(desired, failed)
            if not decided_again:
                break
        self._tell(tuple(dict.fromkeys(problems + self._finish(desired))))
        return self._report(discovered, net, desired, {**failed, **desired.failed})

    def stop_accepting(self) -> None:
        """Names go first, then listeners; running connections and their addresses stay."""
        self._publish({})
        self._forwarder.remove_listeners(tuple(self._open))
        self._open = {}

    def close(self) -> None:
        """Leaves nothing of ours on the machine. Raises HostError saying what had to stay."""
        self._machine.close()

    def _tell(self, problems: tuple[str, ...]) -> None:
        """Each problem is one line when it comes; that it has gone is one, too."""
        for problem in problems:
            if problem not in self.problems:
                logger.warning("%s", problem)
        if self.problems and not problems:
            logger.info("addresses and names are as they should be again")
        self.problems = problems

    def _look_at_the_interface(self, problems: list[str]) -> None:
        """What is there is read, not assumed: others delete addresses and whole interfaces."""
        try:
            self._present = self._machine.addresses()
        except InterfaceTaken as exc:
            self._present = frozenset()
            problems.append(str(exc))
        except HostError as exc:
            problems.append(str(exc))
        self.interface = self._machine.status()

    def _facts(self, discovered: Discovered, net: NetSettings, loops: Iterable[str]) -> Facts:
        assert self.interface is not None
        interfaces = {listen_interface(net, e.target.hostname) for e in discovered.endpoints}
        ips: dict[str, str] = {}
        for name in sorted(interfaces - {VIRTUAL}):
            ip = self._interface_ip(name)
            if ip is not None:
                ips[name] = ip
        return Facts(
            subnet=self.interface.subnet,
            reserved_names=self._machine.reserved_names(),
            loop_names=frozenset(loops),
            interface_ips=ips,
            low_ports_forbidden=self._low_ports_forbidden,
            taken_ports=self._taken_ports,
        )

    def _interface_ip(self, name: str) -> Optional[str]:
        try:
            return str(ipaddress.IPv4Address(name))
        except ipaddress.AddressValueError:
            pass  # not an address, so an interface's name
        try:
            return self._machine.interface_address(name)
        except HostError as exc:
            logger.debug("net.listen_interface %s: %s", name, exc)
            return None

    def _remember(self, remembered: Remembered, problems: list[str]) -> None:
        """An assignment is on disk before it is used, so that a crash cannot give it away."""
        known = _in_order(remembered) == _in_order(self._remembered)
        if known and self._memory.holds_assignments():
            return
        try:
            self._memory.save_assignments(remembered)
        except StateError as exc:
            problems.append(f"addresses may differ after a restart: {exc}")
        self._remembered = remembered

    def _converge(self, desired: Desired, failed: dict[Target, str]) -> bool:
        """Adds addresses and opens listeners; True if what it met asks for another decision."""
        steps = planning.plan(desired.listeners, desired.addresses, self._open, self._present)
        refused = self._machine.add_addresses(steps.add_addresses) if steps.add_addresses else {}
        self._present |= set(steps.add_addresses) - set(refused)
        broken = {at: route for at, route in self._open.items() if at.ip in refused}
        failed.update({route.target: refused[at.ip] for at, route in broken.items()})
        decide_again = False
        # Those that are about to be closed do not count. Counted once: 10,000 endpoints are opened.
        listening_now = len(self._open.keys() & desired.listeners.keys())
        for at, route in steps.open.items():
            to = route.target
            if at.ip in refused:
                failed[to] = refused[at.ip]
                continue
            if listening_now >= self._max_listeners:
                failed[to] = TOO_MANY.format(self._max_listeners)
                continue
            try:
                listening = self._machine.bind(at)
            except PortForbidden as exc:
                failed[to] = str(exc)
                if not self._low_ports_forbidden:
                    logger.warning("%s. Until then net.start_port and up serve instead", exc)
                    self._low_ports_forbidden = decide_again = True
            except BindError as exc:
                failed[to] = str(exc)
                if at.port != to.port and _in_use(exc):  # ours to choose: take the next one
                    self._taken_ports |= {at.port}
                    decide_again = True
            else:
                failed.pop(to, None)
                self._forwarder.add_listener(listening, route)
                self._open[at] = route
                listening_now += 1
        for at, route in steps.retarget.items():
            self._forwarder.retarget(at, route)
            self._open[at] = route
        return decide_again

    def _finish(self, desired: Desired) -> list[str]:
        """Publishes what is really open, then closes and removes what is no longer wanted."""
        steps = planning.plan(
            desired.listeners,
            desired.addresses,
            self._open,
            self._present,
            self._busy_ips(),
        )
        closing = set(steps.close)
        staying = {at: route for at, route in self._open.items() if at not in closing}
        problems = self._publish(planning.published_names(self._reachable(staying, desired)))
        if steps.close:
            self._forwarder.remove_listeners(steps.close)
            self._open = staying
        if steps.remove_addresses:
            refused = self._machine.remove_addresses(steps.remove_addresses)
            self._present -= set(steps.remove_addresses) - set(refused)
            problems += [f"address {ip} could not be removed: {why}" for ip, why in refused.items()]
        return problems

    def _reachable(self, listeners: Listeners, desired: Desired) -> dict[Address, Route]:
        """Without those whose address is not on our interface now: it may be elsewhere's."""
        missing = desired.addresses - self._present
        return {at: route for at, route in listeners.items() if at.ip not in missing}

    def _busy_ips(self) -> set[str]:
        counters = self._forwarder.counters()
        busy = {to.hostname for to, counted in counters.items() if counted.open}
        return {ip for name, ip in self._remembered.addresses.items() if name in busy}

    def _publish(self, names: dict[str, str]) -> list[str]:
        try:
            self.hosts_writes += self._machine.publish(names)
            self._names = names
        except HostError:  # `hosts` has the reason
            self._names = {}
        self.hosts = self._machine.hosts()
        return [self.hosts.problem] if self.hosts.problem else []

    def _report(
        self,
        discovered: Discovered,
        net: NetSettings,
        desired: Desired,
        failed: Mapping[Target, str],
    ) -> Change:
        """One line in the log for each endpoint whose state changed."""
        actual = Actual(self._reachable(self._open, desired), self._names, failed)
        before = self.endpoints
        self.endpoints = outcome.statuses(discovered, net, desired, actual)
        self.failed = sum(status.state is EndpointState.FAILED for status in self.endpoints)
        for needs_attention, line in outcome.lines(before, self.endpoints):
            logger.log(logging.WARNING if needs_attention else logging.INFO, "%s", line)
        return outcome.changes(before, self.endpoints)


def _in_order(remembered: Remembered) -> tuple[list[tuple[str, str]], list[tuple[str, int]]]:
    """Comparable with the order: it says which of the absent ones has been gone longest."""
    return list(remembered.addresses.items()), list(remembered.ports.items())


def _in_use(exc: BindError) -> bool:
    return isinstance(exc.__cause__, OSError) and exc.__cause__.errno == errno.EADDRINUSE
