"""Makes this machine what the last good poll says it should be, and knows what is now true."""

from __future__ import annotations

import ipaddress
import logging
import sys
from collections.abc import Iterable, Mapping
from typing import Optional

from ngrokd import outcome
from ngrokd import plan as planning
from ngrokd.assignments import Assignments
from ngrokd.config import NetSettings
from ngrokd.desired import VIRTUAL, Desired, Facts, desire, listen_interface
from ngrokd.errors import HostError
from ngrokd.model import Discovered, EndpointState, EndpointStatus, InterfaceStatus, Target
from ngrokd.outcome import Actual, Change
from ngrokd.parts import Forwarder, Machine, Memory
from ngrokd.published import Published
from ngrokd.serving import Serving

logger = logging.getLogger(__name__)

BIND_ROUNDS = 3  # a refused low port, then a taken network port, each change the decision once


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
        self._machine = machine
        self._serving = Serving(machine, forwarder, max_listeners)
        self._published = Published(machine)
        self._assignments = Assignments(memory)
        self.interface: Optional[InterfaceStatus] = None
        self.endpoints: tuple[EndpointStatus, ...] = ()
        self.failed = 0  # of them; asked for after every message, so it is counted beforehand
        self.problems: tuple[str, ...] = ()

    @property
    def hosts_writes(self) -> int:
        """How often the hosts file was written."""
        return self._published.writes

    def recall(self) -> None:
        """Takes up the assignments of the last run."""
        self._assignments.recall()

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
        problems = self._serving.look()
        self.interface = self._machine.status()
        for _ in range(BIND_ROUNDS):
            facts = self._facts(discovered, net, loops)
            desired = desire(discovered, net, facts, self._assignments.held)
            problems += self._assignments.keep(desired.remembered)
            if not self._make(desired):
                break
        self._tell(tuple(dict.fromkeys(problems + self._finish(desired))))
        return self._report(discovered, net, desired, {**self._serving.failed, **desired.failed})

    def stop_accepting(self) -> None:
        """Names go first, then listeners; running connections and their addresses stay."""
        self._published.replace({})
        self._serving.close(tuple(self._serving.open))

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
            low_ports_forbidden=self._serving.low_ports_forbidden,
            taken_ports=self._serving.taken_ports,
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

    def _make(self, desired: Desired) -> bool:
        """Makes what is missing; True if what it met asks for another decision."""
        serving = self._serving
        steps = planning.plan(desired.listeners, desired.addresses, serving.open, serving.present)
        return serving.make(steps, desired)

    def _finish(self, desired: Desired) -> list[str]:
        """Publishes what is really open, then closes and removes what is no longer wanted."""
        serving = self._serving
        steps = planning.plan(
            desired.listeners,
            desired.addresses,
            serving.open,
            serving.present,
            self._busy_ips(),
        )
        staying = serving.reachable(serving.without(steps.close), desired)
        problems = self._published.replace(planning.published_names(staying))
        serving.close(steps.close)
        return problems + serving.remove_addresses(steps.remove_addresses)

    def _busy_ips(self) -> set[str]:
        busy = self._serving.busy_hosts()
        return {ip for name, ip in self._assignments.held.addresses.items() if name in busy}

    def _report(
        self,
        discovered: Discovered,
        net: NetSettings,
        desired: Desired,
        failed: Mapping[Target, str],
    ) -> Change:
        """One line in the log for each endpoint whose state changed."""
        reachable = self._serving.reachable(self._serving.open, desired)
        actual = Actual(reachable, self._published.names, failed)
        before = self.endpoints
        self.endpoints = outcome.statuses(discovered, net, desired, actual)
        self.failed = sum(status.state is EndpointState.FAILED for status in self.endpoints)
        for needs_attention, line in outcome.lines(before, self.endpoints):
            logger.log(logging.WARNING if needs_attention else logging.INFO, "%s", line)
        return outcome.changes(before, self.endpoints)
