"""What every kind of interface can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ngrokd.model import InterfaceStatus


class Backend(Protocol):
    """The interface that carries the endpoint addresses. Owner: main."""

    @property
    def status(self) -> InterfaceStatus:
        """What it is, and why it is not what was configured."""
        ...

    def addresses(self) -> frozenset[str]:
        """The endpoint addresses that are on it now, without the gateway. Raises HostError."""
        ...

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        """Adds them; those refused with the reason. One that is there already is no fault."""
        ...

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        """Removes them; those refused with the reason. One that is gone already is no fault."""
        ...

    def close(self) -> None:
        """Takes it off the machine. Twice is harmless. Raises HostError."""
        ...
