"""The names that stand in the hosts file for us."""

from __future__ import annotations

from typing import Optional

from ngrokd.errors import HostError
from ngrokd.model import HostsStatus
from ngrokd.parts import Machine


class Published:
    """Owner: main thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.names: dict[str, str] = {}  # what the hosts file has of ours; {} if it refused
        self.status: Optional[HostsStatus] = None  # None: nothing was to be published yet
        self.writes = 0

    def replace(self, names: dict[str, str]) -> list[str]:
        """Makes them exactly `names`; why that could not be, if so."""
        problem = ""
        try:
            self.writes += self._machine.publish(names)
            self.names = names
        except HostError as exc:
            self.names, problem = {}, str(exc)
        self.status = self._machine.hosts()
        problem = self.status.problem or problem
        return [problem] if problem else []
