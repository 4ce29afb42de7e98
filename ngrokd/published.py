"""The names that stand in the hosts file for us."""

from __future__ import annotations

from ngrokd.errors import HostError
from ngrokd.parts import Machine


class Published:
    """Owner: main thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.names: dict[str, str] = {}  # what the hosts file has of ours; {} if it refused
        self.writes = 0

    def replace(self, names: dict[str, str]) -> list[str]:
        """Makes them exactly `names`; why that could not be, if so."""
        try:
            if self._machine.publish(names):
                self.writes += 1
        except HostError as exc:
            self.names = {}
            return [str(exc)]
        self.names = names
        return []
