"""Makes this machine what the last good poll says it should be, and knows what is now true."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Iterable
from typing import Optional

from ngrokd import exposure, outcome
from ngrokd.assignments import Assignments
from ngrokd.config import NetSettings
from ngrokd.desired import Desired, Remembered, desire
from ngrokd.exposure import Exposed
from ngrokd.model import Address, Discovered, EndpointState, EndpointStatus, InterfaceStatus
from ngrokd.outcome import Actual, Change
from ngrokd.parts import Forwarder, Machine, Memory
from ngrokd.plan import Plan, plan, published_names
from ngrokd.published import Published
from ngrokd.serving import Serving
from ngrokd.sight import Sight

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
        max_listeners: int = sys.maxsize,
    ) -> None:
        """`max_listeners`: what the descriptor limit allows; more endpoints than that fail."""
        self._machine = machine
        self._sight = Sight(machine)
        self._serving = Serving(machine, forwarder, max_listeners)
        self._published = Published(machine)
        self._assignments = Assignments(memory)
        self._stopping = False
        self._decided: Optional[tuple[object, Remembered, Desired]] = None  # from what, and what
        self._reported: Optional[tuple[Desired, Actual]] = None
        self.interface: Optional[InterfaceStatus] = None
        self.endpoints: tuple[EndpointStatus, ...] = ()
        self.failed = 0  # of them; asked for after every message, so it is counted beforehand
        self.problems: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._exposed: Exposed = {}

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
        next call. After `stop_accepting` nothing changes any more.
        """
        assert self.interface is not None, "prepare() comes first"
        if self._stopping:
            return Change()
        problems = self._serving.look() + self._sight.look(discovered.endpoints, net)
        self.interface = self._machine.status()
        for _ in range(ROUNDS):
            desired, told = self._decide(discovered, net, loops)
            problems += told
            steps = self._plan(desired)
            if steps.give_way:
                problems += self._close(steps.give_way, desired)
            if not self._serving.make(steps, desired):
                break
        self._serving.confirm()
        self._tell(problems + self._finish(steps, desired))
        return self._report(discovered, net, desired)

    def stop_accepting(self) -> None:
        """Names go first, then listeners; running connections and their addresses stay."""
        self._stopping = True
        nothing = Desired(remembered=self._assignments.held)
        # The addresses go with the interface, all at once: `close`.
        self._tell(self._close(self._plan(nothing).close, nothing))
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
        """What should be, from what is known; the last decision where nothing has changed.

        Nearly every poll finds everything as it was: to see that is a tenth of the work.
        """
        assert self.interface is not None
        serving = self._serving
        facts = self._sight.facts(
            self.interface.subnet, loops, serving.forbidden_below, serving.taken_ports
        )
        known = (discovered, net, facts)
        decided, held = self._decided, self._assignments.held
        if decided is not None and decided[0] == known and decided[1] is held:
            desired = decided[2]
        else:
            desired = desire(discovered, net, facts, held)
        problems = self._assignments.keep(desired.remembered)
        self._decided = known, self._assignments.held, desired
        return desired, problems

    def _plan(self, desired: Desired) -> Plan:
        serving = self._serving
        return plan(desired.listeners, desired.addresses, serving.open, serving.present)

    def _finish(self, steps: Plan, desired: Desired) -> list[str]:
        """Publishes what is really open, then closes and removes what is no longer wanted."""
        problems = self._close(steps.close, desired)
        leaving = steps.remove_addresses
        if leaving:
            busy = self._busy_ips()
            leaving = tuple(ip for ip in leaving if ip not in busy)
        return problems + self._serving.remove_addresses(leaving)

    def _close(self, leaving: Collection[Address], desired: Desired) -> list[str]:
        """First the names that lead there are withdrawn: what else is reachable is published."""
        serving = self._serving
        staying = serving.reachable(serving.without(leaving), desired)
        names = published_names(staying, desired.addresses)
        problems = self._published.replace(names)
        serving.close(leaving)
        return problems

    def _busy_ips(self) -> set[str]:
        busy = self._serving.busy_hosts()
        return {ip for name, ip in self._assignments.held.addresses.items() if name in busy}

    def _report(self, discovered: Discovered, net: NetSettings, desired: Desired) -> Change:
        """One line in the log for each endpoint whose state changed."""
        serving = self._serving
        reachable = dict(serving.reachable(serving.open, desired))
        failed = {**serving.failed, **desired.failed}
        before = self.endpoints
        actual = Actual(reachable, self._published.names, failed)
        was = self._reported
        if was is not None and was[0] is desired and was[1] == actual:
            return Change()
        self._reported = desired, actual
        self.endpoints = outcome.statuses(discovered, net, desired, actual)
        self.failed = sum(status.state is EndpointState.FAILED for status in self.endpoints)
        for needs_attention, line in outcome.lines(before, self.endpoints):
            logger.log(logging.WARNING if needs_attention else logging.INFO, "%s", line)
        self._note(exposure.exposed(reachable, desired.addresses))
        return outcome.changes(before, self.endpoints)

    def _note(self, exposed: Exposed) -> None:
        """That other hosts can reach an endpoint is a warning when it comes to be."""
        warning = exposure.warning(self._exposed, exposed)
        if warning:
            logger.warning("%s", warning)
        self._exposed = exposed
        low_ports = outcome.low_ports_note(self.endpoints, self._serving.forbidden_below)
        self.notes = tuple(filter(None, (exposure.note(exposed), low_ports)))
