"""Which address and port belongs to whom: on disk before it is used."""

from __future__ import annotations

from ngrokd.desired import Remembered
from ngrokd.errors import StateError
from ngrokd.parts import Memory


class Assignments:
    """Owner: main thread."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.held = Remembered()

    def recall(self) -> None:
        """Takes up those of the last run."""
        self.held = self._memory.assignments()

    def keep(self, remembered: Remembered) -> list[str]:
        """Saves them first, so that a crash cannot give one away; what is wrong with that."""
        known = remembered is self.held or _in_order(remembered) == _in_order(self.held)
        if known and self._memory.holds_assignments():
            return []
        problems = []
        try:
            self._memory.save_assignments(remembered)
        except StateError as exc:
            problems.append(f"addresses may differ after a restart: {exc}")
        self.held = remembered
        return problems


def _in_order(remembered: Remembered) -> tuple[list[tuple[str, str]], list[tuple[str, int]]]:
    """Comparable with the order: it says which of the absent ones has been gone longest."""
    return list(remembered.addresses.items()), list(remembered.ports.items())
