"""Which address and port belongs to whom: on disk before it is used."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ngrokd.errors import StateError
from ngrokd.reconcile.desired import Remembered
from ngrokd.reconcile.parts import Memory

logger = logging.getLogger(__name__)


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
        if _same(remembered, self.held) and self._memory.holds_assignments():
            self.held = remembered  # the very value that was decided: it compares at once
            return []
        problems = []
        try:
            self._memory.save_assignments(remembered)
        except StateError as exc:
            problems.append(f"addresses may differ after a restart: {exc}")
        if logger.isEnabledFor(logging.DEBUG):
            _tell(self.held.addresses, remembered.addresses)
        self.held = remembered
        return problems


def _tell(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name, ip in now.items():
        if before.get(name) != ip:
            logger.debug('Allocated IP hostname="%s" ip="%s"', name, ip)


def _same(one: Remembered, other: Remembered) -> bool:
    """With the order: it says which of the absent ones has been gone longest."""
    return one is other or (
        one == other
        and list(one.addresses) == list(other.addresses)
        and list(one.ports) == list(other.ports)
    )
