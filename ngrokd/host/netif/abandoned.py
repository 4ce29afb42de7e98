"""The loopback range, perhaps beside an interface of ours that could not be made to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from ngrokd.host.netif.loopback import Loopback
from ngrokd.host.netif.ranges import Range


class Abandoned(Loopback):
    """A Backend. Owner: main."""

    def __init__(
        self, instead: Range, notes: tuple[str, ...], take_back: Optional[Callable[[], None]]
    ) -> None:
        """`take_back` removes what may be there of the interface. Raises HostError."""
        super().__init__(instead.subnet, notes, instead)
        self._take_back = take_back

    def close(self) -> None:
        super().close()
        if self._take_back is not None:
            self._take_back()
