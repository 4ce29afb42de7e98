"""What listens on this machine for us, and the addresses beneath it: opened and closed."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ngrokd.errors import HostError, InterfaceTaken, PortForbidden
from ngrokd.model import Address, Route, Target
from ngrokd.reconcile.desired import Desired
from ngrokd.reconcile.parts import Forwarder, Machine
from ngrokd.reconcile.plan import Listeners, Plan, lacking

logger = logging.getLogger(__name__)

UNSERVED = "{} is listened on by nobody: the forwarding thread did not take it (see the log)"


@dataclass(frozen=True)
class Room:
    """How many listeners the descriptor limit allows, and why one more is none."""

    listeners: int = sys.maxsize
    reason: str = "descriptor limit"


class Serving:
    """Owner: main thread. What it opened itself, and the addresses that the machine shows."""

    def __init__(self, machine: Machine, forwarder: Forwarder, room: Room) -> None:
        self._machine = machine
        self._forwarder = forwarder
        self._room = room
        self._crowded = False  # there was no room for some
        self.room_came = False  # since then others were closed
        # Since the last look, so that nothing is tried twice at one poll:
        self._refused: dict[Address, HostError] = {}
        self._refused_ips: dict[str, str] = {}
        # Never changed in place, so that where nothing changes the very same value goes around.
        self.open: Listeners = {}
        self.present: frozenset[str] = frozenset()  # addresses on the interface, as last seen
        self.failed: dict[Target, str] = {}  # what was refused since the last look
        self.forbidden_below = 0  # lower ports are refused to us
        self.taken_ports: frozenset[int] = frozenset()  # since the last look

    def look(self) -> list[str]:
        """What is there is read, not assumed: others delete addresses and whole interfaces."""
        self.failed, self.taken_ports = {}, frozenset()
        self._refused, self._refused_ips = {}, {}
        if self.forbidden_below:  # the administrator may have lowered it
            self.forbidden_below = self._machine.first_free_port()
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
        self._add_addresses([ip for ip in steps.add_addresses if ip not in self._refused_ips])
        refused = self._refused_ips
        if refused:
            broken = {at: route for at, route in self.open.items() if at.ip in refused}
            self.failed.update({route.target: refused[at.ip] for at, route in broken.items()})
        self._crowded = self.room_came = False
        for at, route in steps.retarget.items():
            self._forwarder.retarget(at, route)
        met: dict[Address, HostError] = {}
        if steps.retarget or steps.open:
            self.open = {**self.open, **steps.retarget, **self._opened(steps.open, met)}
        self._refused.update(met)
        low_ports, taken = self._low_ports(met), self._taken(met, desired)
        return low_ports or taken

    def close(self, addresses: Collection[Address]) -> None:
        """Returns when these accept nobody any more; their running connections go on."""
        leaving = [at for at in addresses if at in self.open]
        if leaving:
            self._forwarder.remove_listeners(leaving)
            self.open = self.without(leaving)
            self.room_came = self._crowded

    def confirm(self) -> None:
        """Counts as open only what the forwarder has: it may have ended, or had no room."""
        taken = self._forwarder.listening()
        if taken is None:  # it does not answer, which is told elsewhere
            return
        if len(taken) == len(self.open):  # it has none but those that it was given
            return
        missing = set(self.open).difference(taken)
        self.failed.update({self.open[at].target: UNSERVED.format(at) for at in missing})
        self.open = self.without(missing)

    def settle(self, desired: Desired) -> None:
        """Where all is as wanted, keeps the very values that are wanted: they compare at once."""
        if self.open == desired.listeners:
            self.open = desired.listeners
        if self.present == desired.addresses:
            self.present = desired.addresses

    def hold(self, ips: Collection[str]) -> None:
        """Puts those on the interface that are not there: else they lead out of this machine."""
        self._add_addresses([ip for ip in ips if ip not in self._refused_ips.keys() | self.present])

    def remove_addresses(self, ips: Collection[str]) -> list[str]:
        """Takes them off the interface; what could not be."""
        if not ips:
            return []
        try:
            refused = self._machine.remove_addresses(ips)
        except HostError as exc:
            return [f"addresses could not be removed ({len(ips)}): {exc}"]
        self.present -= set(ips) - set(refused)
        return [f"address {ip} could not be removed: {why}" for ip, why in refused.items()]

    def without(self, addresses: Iterable[Address]) -> Listeners:
        """What listens, but for these."""
        leaving = set(addresses)
        if not leaving:
            return self.open
        return {at: route for at, route in self.open.items() if at not in leaving}

    def reachable(self, listeners: Listeners, desired: Desired) -> Listeners:
        """Without those whose address is not on our interface now: it may be elsewhere's."""
        missing = lacking(desired.addresses, self.present)
        if not missing:
            return listeners
        return {at: route for at, route in listeners.items() if at.ip not in missing}

    def busy_hosts(self) -> set[str]:
        """The hostnames to which connections run."""
        counters = self._forwarder.counters()
        return {to.hostname for to, counted in counters.items() if counted.open}

    def _add_addresses(self, ips: Collection[str]) -> None:
        if not ips:
            return
        try:
            refused = self._machine.add_addresses(ips)
        except HostError as exc:
            refused = dict.fromkeys(ips, str(exc))
        self._refused_ips.update(refused)
        self.present |= set(ips) - set(refused)

    def _opened(self, wanted: Listeners, met: dict[Address, HostError]) -> Listeners:
        """Those that listen now; why others cannot is added to `met`."""
        opened: dict[Address, Route] = {}
        for at, route in wanted.items():
            if at.ip in self._refused_ips:
                self.failed[route.target] = self._refused_ips[at.ip]
            elif at in self._refused:
                self.failed[route.target] = str(self._refused[at])
            elif len(self.open) + len(opened) >= self._room.listeners:
                self.failed[route.target] = self._room.reason
                self._crowded = True
            elif self._open(at, route, met):
                opened[at] = route
        return opened

    def _open(self, at: Address, route: Route, met: dict[Address, HostError]) -> bool:
        """One listener; if it cannot be, why not is added to `met`."""
        try:
            listening = self._machine.bind(at)
        except HostError as exc:
            met[at] = exc
            self.failed[route.target] = str(exc)
            return False
        self.failed.pop(route.target, None)
        self._forwarder.add_listener(listening, route)
        return True

    def _low_ports(self, met: Mapping[Address, HostError]) -> bool:
        """True if it is only now known that low ports are refused: others can serve instead."""
        forbidden = [(at.port, str(exc)) for at, exc in met.items() if _forbidden(exc)]
        if not forbidden or self.forbidden_below:
            return False
        # Of the lowest one: what allows that allows them all.
        logger.warning("%s. Until then net.start_port and up serve instead", min(forbidden)[1])
        self.forbidden_below = self._machine.first_free_port()
        return True

    def _taken(self, met: Mapping[Address, HostError], desired: Desired) -> bool:
        """True if another program has a port that is ours to choose: the next one is to be had."""
        taken = [at for at, exc in met.items() if _in_use(exc) and _is_moved(at, desired)]
        if not taken:
            return False
        # All of them at once, so that a long row of taken ports does not take as many rounds.
        listening = self._machine.ports_in_use() - {at.port for at in self.open}
        self.taken_ports |= listening | {at.port for at in taken}
        return True


def _forbidden(exc: HostError) -> bool:
    return isinstance(exc, PortForbidden)


def _in_use(exc: HostError) -> bool:
    return isinstance(exc.__cause__, OSError) and exc.__cause__.errno == errno.EADDRINUSE


def _is_moved(at: Address, desired: Desired) -> bool:
    """It has a port of `net.start_port` and up, whichever number that may be."""
    return desired.listeners[at].target in desired.moved
