"""Makes this machine what the last good poll says it should be, and knows what is now true."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.host import ipam
from ngrokd.model import (
    Address,
    Discovered,
    EndpointState,
    EndpointStatus,
    HostsStatus,
    InterfaceStatus,
)
from ngrokd.reconcile import exposure, outcome
from ngrokd.reconcile import plan as planning
from ngrokd.reconcile.assignments import Assignments
from ngrokd.reconcile.desired import Desired, desire
from ngrokd.reconcile.exposure import Exposed
from ngrokd.reconcile.latest import Latest
from ngrokd.reconcile.outcome import Actual, Change
from ngrokd.reconcile.parts import Forwarder, Machine, Memory
from ngrokd.reconcile.published import Published
from ngrokd.reconcile.serving import Room, Serving
from ngrokd.reconcile.sight import Sight

logger = logging.getLogger(__name__)

# Refused low ports and taken network ports change the decision. Where this machine tells which
# ports are in use, three rounds do; else each round passes one by.
ROUNDS = 16


class Reconciler:
    """Owner: main thread. Actual state is what it opened itself and what the machine shows."""

    def __init__(
        self,
        machine: Machine,
        forwarder: Forwarder,
        memory: Memory,
        room: Optional[Room] = None,
    ) -> None:
        """`room`: for listeners; more endpoints than that fail. None: there is no limit."""
        self._machine = machine
        self._sight = Sight(machine)
        self._serving = Serving(machine, forwarder, room or Room())
        self._published = Published(machine)
        self._assignments = Assignments(memory)
        self._desire = Latest(desire)
        self._names = Latest(planning.published_names)
        self._usurped = Latest(planning.usurped)
        self._statuses = Latest(outcome.statuses)
        self._exposing = Latest(exposure.exposed)
        self._stopping = False
        self.interface: Optional[InterfaceStatus] = None
        self.endpoints: tuple[EndpointStatus, ...] = ()
        self.failed = 0  # of them; asked for after every message, so it is counted beforehand
        self.problems: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._exposed: Exposed = {}

    @property
    def hosts(self) -> Optional[HostsStatus]:
        """The hosts file as it was last left; None: nothing was to be published yet."""
        return self._published.status

    @property
    def hosts_writes(self) -> int:
        """How often the hosts file was written."""
        return self._published.writes

    def recall(self) -> None:
        """Takes up the assignments of the last run."""
        self._assignments.recall()

    def prepare(self) -> InterfaceStatus:
        """Makes or adopts the interface. Raises HostError: another daemon has it, by name."""
        self.interface = self._machine.prepare(self._assignments.held.addresses.values())
        return self.interface

    def apply(self, discovered: Discovered, net: NetSettings, loops: Iterable[str]) -> Change:
        """One complete answer of the API becomes listeners and names.

        A listener that the machine refuses costs only its own endpoint and is tried again at the
        next call. After `stop_accepting` nothing changes any more.
        """
        assert self.interface is not None, "prepare() comes first"
        if self._stopping:
            return Change()
        problems = self._serving.look()
        problems += self._sight.look(discovered.endpoints, net, self._assignments.held.addresses)
        self._published.look()
        self.interface = self._machine.status()
        for _ in range(ROUNDS):
            desired, refused = self._decide(discovered, net, loops)
            problems += refused
            problems += self._assignments.keep(desired.remembered)
            made, decide_again = self._make(desired)
            problems += made
            if not decide_again:
                break
        problems += self._finish(desired)
        if self._serving.room_came:  # what was closed holds no descriptors any more
            made, _ = self._make(desired)
            problems += made + self._finish(desired)
        self._tell(problems)
        return self._report(discovered, net, desired)

    def stop_accepting(self) -> None:
        """Names go first, then listeners; running connections and their addresses stay."""
        self._stopping = True
        nothing = Desired(remembered=self._assignments.held)
        # The addresses go with the interface, all at once: see `close`.
        self._tell(self._finish(nothing, keeping=self._serving.present))
        self.endpoints, self.failed, self.notes = (), 0, ()

    def close(self) -> None:
        """Leaves nothing of ours on the machine. Raises HostError saying what had to stay."""
        self._machine.close()

    def _tell(self, told: Iterable[str]) -> None:
        """Each problem is one line when it comes; that it has gone is one, too."""
        problems = tuple(dict.fromkeys(told))
        for problem in problems:
            if problem not in self.problems:
                logger.warning("%s", problem)
        if self.problems and not problems and not self._stopping:
            logger.info("addresses and names are as they should be again")
        self.problems = problems

    def _decide(
        self, discovered: Discovered, net: NetSettings, loops: Iterable[str]
    ) -> tuple[Desired, list[str]]:
        """What should be; and what is wrong with what had to be done for that.

        A name leads to its own endpoint or to nothing of ours: one whose address or port another
        hostname is to have is withdrawn first. If it cannot be, nobody else gets that.
        """
        assert self.interface is not None
        serving, published = self._serving, self._published
        facts = self._sight.facts(
            self.interface.subnet, loops, serving.forbidden_below, serving.taken_ports
        )
        facts = replace(facts, held=self._not_to_be_given())
        desired = self._desire(discovered, net, facts, self._assignments.held)
        # With what it has just given out it gives out the same again.
        self._desire.knows(discovered, net, facts, desired.remembered)
        usurped = self._usurped(
            desired.listeners, serving.open, published.standing, desired.addresses
        )
        if not usurped:
            return desired, []
        reachable = serving.reachable(serving.open, desired)
        problems = published.withdraw(usurped, self._names(reachable, desired.addresses))
        if not published.is_refused:
            return desired, problems
        serving.taken_ports |= planning.contested_ports(
            desired.listeners, serving.open, published.standing
        )
        facts = replace(facts, held=self._not_to_be_given(), taken_ports=serving.taken_ports)
        return self._desire(discovered, net, facts, self._assignments.held), problems

    def _not_to_be_given(self) -> Mapping[str, Collection[str]]:
        """Addresses that are in use, and the names for which they are; none: nobody gets it."""
        assert self.interface is not None
        if not self.interface.occupied:
            return self._published.held
        return {**dict.fromkeys(self.interface.occupied, ()), **self._published.held}

    def _make(self, desired: Desired) -> tuple[list[str], bool]:
        """Makes what is missing; what is wrong, and whether that asks for another decision."""
        serving = self._serving
        serving.settle(desired)
        steps = planning.plan(desired.listeners, desired.addresses, serving.open, serving.present)
        problems = []
        if steps.give_way:
            problems = self._close(steps.give_way, desired, passed_on=steps.retarget)
        return problems, serving.make(steps, desired)

    def _finish(self, desired: Desired, keeping: Collection[str] = ()) -> list[str]:
        """Publishes what is really open, then closes and removes what is no longer wanted.

        The addresses `keeping` stay; without them, those to which connections run.
        """
        serving = self._serving
        serving.confirm()
        serving.settle(desired)
        if planning.lacking(serving.present, desired.addresses):  # else nobody needs to know
            keeping = keeping or self._busy_ips()
        steps = planning.plan(
            desired.listeners, desired.addresses, serving.open, serving.present, keeping
        )
        problems = self._close(steps.close, desired)
        held = self._held_ips()
        if held and not self._stopping:
            serving.hold(held - desired.addresses)
        return problems + serving.remove_addresses(
            [ip for ip in steps.remove_addresses if ip not in held]
        )

    def _held_ips(self) -> frozenset[str]:
        """Where names still lead that cannot be withdrawn."""
        assert self.interface is not None
        return ipam.usable(self._published.held, self.interface.subnet)

    def _close(
        self,
        leaving: Collection[Address],
        desired: Desired,
        passed_on: Collection[Address] = (),
    ) -> list[str]:
        """First the names that lead there are withdrawn: what else is reachable is published.

        But not what is `passed_on` to another one in a moment.
        """
        serving = self._serving
        staying = serving.reachable(serving.without([*leaving, *passed_on]), desired)
        problems = self._published.replace(self._names(staying, desired.addresses))
        serving.close(leaving)
        return problems

    def _busy_ips(self) -> set[str]:
        busy = self._serving.busy_hosts()
        return {ip for name, ip in self._assignments.held.addresses.items() if name in busy}

    def _report(self, discovered: Discovered, net: NetSettings, desired: Desired) -> Change:
        """One line in the log for each endpoint whose state changed."""
        serving = self._serving
        reachable = serving.reachable(serving.open, desired)
        failed = {**serving.failed, **desired.failed}
        before = self.endpoints
        actual = Actual(reachable, self._published.names, failed)
        self.endpoints = self._statuses(discovered, net, desired, actual)
        self._note(self._exposing(reachable, desired.addresses))
        if self.endpoints is before:
            return Change()
        self.failed = sum(status.state is EndpointState.FAILED for status in self.endpoints)
        for needs_attention, line in outcome.lines(before, self.endpoints):
            logger.log(logging.WARNING if needs_attention else logging.INFO, "%s", line)
        return outcome.changes(before, self.endpoints)

    def _note(self, exposed: Exposed) -> None:
        """That other hosts can reach an endpoint is a warning when it comes to be."""
        warning = exposure.warning(self._exposed, exposed)
        if warning:
            logger.warning("%s", warning)
        self._exposed = exposed
        low_ports = outcome.low_ports_note(self.endpoints, self._serving.forbidden_below)
        self.notes = tuple(filter(None, (exposure.note(exposed), low_ports)))
