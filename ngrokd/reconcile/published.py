"""The names that stand in the hosts file for us."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.model import HostsStatus
from ngrokd.reconcile.latest import Latest
from ngrokd.reconcile.parts import Machine
from ngrokd.reconcile.plan import Entry


class Published:
    """Owner: main thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._wanted: Mapping[str, str] = {}
        self._names = Latest(_both)
        self.status: Optional[HostsStatus] = None  # None: nothing was to be published yet
        self.writes = 0
        self.is_refused = False  # a change, since the last look

    @property
    def standing(self) -> frozenset[Entry]:
        """Whatever should stand there."""
        return self._machine.hosts().standing

    @property
    def names(self) -> Mapping[str, str]:
        """Those that should stand there, and do."""
        return self._names(self._wanted, self.standing)

    @property
    def held(self) -> Mapping[str, Collection[str]]:
        """Address: the names that lead there and cannot be withdrawn now."""
        found: dict[str, set[str]] = {}
        for name, ip in self.standing if self.is_refused else ():
            found.setdefault(ip, set()).add(name)
        return found

    def look(self) -> None:
        """What was refused before is tried again."""
        self.is_refused = False

    def withdraw(self, leaving: Collection[Entry], serving: Mapping[str, str]) -> list[str]:
        """All but what stands there rightly: of the names `serving`, without those `leaving`."""
        return self.replace(dict(_both(serving, self.standing).items() - set(leaving)))

    def replace(self, names: Mapping[str, str]) -> list[str]:
        """Makes them exactly `names`; why that could not be, if so."""
        problem = ""
        self._wanted = names
        try:
            self.writes += self._machine.publish(names)
        except HostError as exc:
            self.is_refused, problem = True, str(exc)
        self.status = self._machine.hosts()
        problem = self.status.problem or problem
        return [problem] if problem else []


def _both(wanted: Mapping[str, str], standing: frozenset[Entry]) -> Mapping[str, str]:
    if wanted.items() <= standing:  # nearly always
        return wanted
    return dict(wanted.items() & standing)
