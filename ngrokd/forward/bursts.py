"""Which faults are worth a log line: one a burst and target, then how many more there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ngrokd.model import Target

BURST_S = 30.0  # faults of one target within this time after a line are counted, not printed
NOTICES_KEPT = 1000  # texts remembered as already printed; an ingress may invent new ones for ever


@dataclass
class _Burst:
    """The faults of one target since its last line. Owner: forward."""

    until: float  # monotonic
    more: int = 0
    last: str = ""
    works: bool = False  # a connection got through after the last fault


class Bursts:
    """Owner: forward. Gives texts to log; says when it next has one (`next_due`)."""

    def __init__(self) -> None:
        self._bursts: dict[Target, _Burst] = {}
        self._notices: dict[tuple[Target, str], None] = {}

    def fault(self, target: Target, text: str, now: float) -> Optional[str]:
        """The line for a fault, or `None`: it is counted for a later one."""
        burst = self._bursts.get(target)
        if burst is None:
            self._bursts[target] = _Burst(now + BURST_S)
            return f"{target}: {text}"
        burst.more += 1
        burst.last = text
        burst.works = False
        return None

    def success(self, target: Target) -> None:
        """A connection got through."""
        burst = self._bursts.get(target)
        if burst is not None:
            burst.works = True

    def next_due(self) -> Optional[float]:
        """When `due` may have something to say."""
        return min((burst.until for burst in self._bursts.values()), default=None)

    def due(self, now: float) -> list[str]:
        """The lines of the bursts whose time is over; one that goes on gets another period."""
        over = [item for item in self._bursts.items() if item[1].until <= now]
        lines = []
        for target, burst in over:
            if burst.more:
                self._bursts[target] = _Burst(now + BURST_S)
                lines.append(_line(target, burst))
            else:
                del self._bursts[target]
        return lines

    def notice(self, target: Target, text: str) -> Optional[str]:
        """The line for a notice of ngrok's, or `None`: it has been printed before."""
        if (target, text) in self._notices:
            return None
        if len(self._notices) >= NOTICES_KEPT:
            del self._notices[next(iter(self._notices))]
        self._notices[target, text] = None
        return f"{target}: ngrok says: {text}"


def _line(target: Target, burst: _Burst) -> str:
    number = "1 more connection" if burst.more == 1 else f"{burst.more} more connections"
    after = "; it works again" if burst.works else ""
    return f"{target}: {number} failed within {BURST_S:.0f} s, the last with: {burst.last}{after}"
