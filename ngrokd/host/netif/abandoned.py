"""The loopback range beside an interface of ours that could neither be made nor taken back."""

from __future__ import annotations

from collections.abc import Callable

from ngrokd.host.netif.loopback import Loopback


class Abandoned(Loopback):
    """A Backend. Owner: main."""

    def __init__(self, subnet: str, notes: tuple[str, ...], take_back: Callable[[], None]) -> None:
        """`take_back` removes that interface, if it is there. Raises HostError."""
        super().__init__(subnet, notes)
        self._take_back = take_back

    def close(self) -> None:
        super().close()
        self._take_back()
