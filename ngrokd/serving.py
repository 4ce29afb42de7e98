"""What listens on this machine for us, and the addresses beneath it: opened and closed."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterable

from ngrokd.desired import Desired
from ngrokd.errors import BindError, HostError, InterfaceTaken, PortForbidden
from ngrokd.model import Address, Route, Target
from ngrokd.parts import Forwarder, Machine
from ngrokd.plan import Listeners, Plan

logger = logging.getLogger(__name__)

TOO_MANY = "the descriptor limit allows {} listeners: raise LimitNOFILE or `ulimit -n`"


class Serving:
    """Owner: main thread. What it opened itself, and the addresses that the machine shows."""

    def __init__(self, machine: Machine, forwarder: Forwarder, max_listeners: int) -> None:
        self._machine = machine
        self._forwarder = forwarder
        self._max_listeners = max_listeners
        self.open: dict[Address, Route] = {}
        self.present: frozenset[str] = frozenset()  # addresses on the interface, as last seen
        self.failed: dict[Target, str] = {}  # what was refused since the last look
        self.low_ports_forbidden = False
        self.taken_ports: frozenset[int] = frozenset()  # since the last look

    def look(self) -> list[str]:
        """What is there is read, not assumed: others delete addresses and whole interfaces."""
        self.failed, self.taken_ports = {}, frozenset()
        try:
            self.present = self._machine.addresses()
        except InterfaceTaken as exc:
            self.present = frozenset()
            return [str(exc)]
        except HostError as exc:
            return [str(exc)]
        return []

    def make(self, steps: Plan, desired: Desired) -> bool:
        """Adds addresses and opens listeners; True if what it met asks for another decision."""
        refused = self._machine.add_addresses(steps.add_addresses) if steps.add_addresses else {}
        self.present |= set(steps.add_addresses) - set(refused)
        broken = {at: route for at, route in self.open.items() if at.ip in refused}
        self.failed.update({route.target: refused[at.ip] for at, route in broken.items()})
        decide_again = False
        # Those that are about to be closed do not count. Counted once: 10,000 endpoints are opened.
        listening_now = len(self.open.keys() & desired.listeners.keys())
        for at, route in steps.open.items():
            if at.ip in refused:
                self.failed[route.target] = refused[at.ip]
            elif listening_now >= self._max_listeners:
                self.failed[route.target] = TOO_MANY.format(self._max_listeners)
            else:
                decide_again |= self._open(at, route)
                listening_now += at in self.open
        for at, route in steps.retarget.items():
            self._forwarder.retarget(at, route)
            self.open[at] = route
        return decide_again

    def _open(self, at: Address, route: Route) -> bool:
        """One listener; whether what it met asks for another decision."""
        to = route.target
        try:
            listening = self._machine.bind(at)
        except PortForbidden as exc:
            self.failed[to] = str(exc)
            if not self.low_ports_forbidden:
                logger.warning("%s. Until then net.start_port and up serve instead", exc)
                self.low_ports_forbidden = True
                return True
        except BindError as exc:
            self.failed[to] = str(exc)
            if at.port != to.port and _in_use(exc):  # ours to choose: take the next one
                self.taken_ports |= {at.port}
                return True
        else:
            self.failed.pop(to, None)
            self._forwarder.add_listener(listening, route)
            self.open[at] = route
        return False

    def close(self, addresses: Collection[Address]) -> None:
        """Returns when these accept nobody any more; their running connections go on."""
        if addresses:
            self._forwarder.remove_listeners(addresses)
            self.open = self.without(addresses)

    def remove_addresses(self, ips: Collection[str]) -> list[str]:
        """Takes them off the interface; what could not be."""
        if not ips:
            return []
        refused = self._machine.remove_addresses(ips)
        self.present -= set(ips) - set(refused)
        return [f"address {ip} could not be removed: {why}" for ip, why in refused.items()]

    def without(self, addresses: Iterable[Address]) -> dict[Address, Route]:
        """What listens, but for these."""
        leaving = set(addresses)
        return {at: route for at, route in self.open.items() if at not in leaving}

    def reachable(self, listeners: Listeners, desired: Desired) -> dict[Address, Route]:
        """Without those whose address is not on our interface now: it may be elsewhere's."""
        missing = desired.addresses - self.present
        return {at: route for at, route in listeners.items() if at.ip not in missing}

    def busy_hosts(self) -> set[str]:
        """The hostnames to which connections run."""
        counters = self._forwarder.counters()
        return {to.hostname for to, counted in counters.items() if counted.open}


def _in_use(exc: BindError) -> bool:
    return isinstance(exc.__cause__, OSError) and exc.__cause__.errno == errno.EADDRINUSE
