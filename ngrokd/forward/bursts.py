"""Which faults and notices are worth a log line: one for each cause in a burst, then how many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from ngrokd.model import Cause, Failure, Target

BURST_S = 30.0  # faults of one target within this time after a line are counted, not printed
# ngrok's notices are for the operator, who has read enough after a few; one may hold an id that is
# another for every connection, and an answer may hold thousands.
NOTICES_SAID = 5  # different ones of one target within NOTICE_PERIOD_S
NOTICE_PERIOD_S = 3600.0
NOTICES_KEPT = 1000  # texts remembered as already printed; an ingress may invent new ones for ever


@dataclass
class _Burst:
    """The faults of one target since it was last summed up. Owner: forward."""

    until: float  # monotonic
    said: set[Cause]  # of the whole burst, however many periods it lasts
    more: dict[Cause, int] = field(default_factory=dict)  # not printed
    last: str = ""
    works: bool = False  # a connection got through after the last fault


@dataclass
class _Notices:
    """The notices of one target in this period. Owner: forward."""

    until: float  # monotonic
    said: int = 0
    more: int = 0
    last: str = ""


class Bursts:
    """Owner: forward. Gives texts to log; says when it next has one (`next_due`)."""

    def __init__(self) -> None:
        self._bursts: dict[Target, _Burst] = {}
        self._notices: dict[Target, _Notices] = {}
        self._said: dict[tuple[Target, str], None] = {}

    def fault(self, target: Target, failure: Failure, now: float) -> Optional[str]:
        """The line for a fault, or `None`: its cause has been said, it is counted for later."""
        burst = self._bursts.setdefault(target, _Burst(now + BURST_S, set()))
        burst.works = False
        if failure.cause not in burst.said:
            burst.said.add(failure.cause)
            return f"{target}: {failure.text}"
        burst.more[failure.cause] = burst.more.get(failure.cause, 0) + 1
        burst.last = failure.text
        return None

    def success(self, target: Target) -> None:
        """A connection got through."""
        burst = self._bursts.get(target)
        if burst is not None:
            burst.works = True

    def next_due(self) -> Optional[float]:
        """When `due` may have something to say."""
        ends = [burst.until for burst in self._bursts.values()]
        ends += [notices.until for notices in self._notices.values()]
        return min(ends, default=None)

    def due(self, now: float) -> list[str]:
        """The lines of the bursts whose time is over; one that goes on gets another period."""
        over = [item for item in self._bursts.items() if item[1].until <= now]
        lines = []
        for target, burst in over:
            if burst.more:
                self._bursts[target] = _Burst(now + BURST_S, burst.said)
                lines.append(_line(target, burst))
            else:
                del self._bursts[target]
        return lines + self._due_notices(now)

    def notice(self, target: Target, text: str, now: float) -> Optional[str]:
        """The line for a notice of ngrok's, or `None`: printed before, or counted for later."""
        if (target, text) in self._said:
            return None
        notices = self._notices.setdefault(target, _Notices(now + NOTICE_PERIOD_S))
        if notices.said >= NOTICES_SAID:
            notices.more += 1
            notices.last = text
            return None
        notices.said += 1
        if len(self._said) >= NOTICES_KEPT:
            del self._said[next(iter(self._said))]
        self._said[target, text] = None
        return f"{target}: ngrok says: {text}"

    def _due_notices(self, now: float) -> list[str]:
        over = [item for item in self._notices.items() if item[1].until <= now]
        for target, _ in over:
            del self._notices[target]
        return [
            f"{target}: ngrok said {notices.more} more within {NOTICE_PERIOD_S / 60:.0f} minutes, "
            f"the last: {notices.last}"
            for target, notices in over
            if notices.more
        ]


def _line(target: Target, burst: _Burst) -> str:
    count = sum(burst.more.values())
    number = "1 more connection" if count == 1 else f"{count} more connections"
    each = ", ".join(f"{many} {cause.value}" for cause, many in burst.more.items())
    causes = f" ({each})" if len(burst.more) > 1 else ""
    after = "; it works again" if burst.works else ""
    return (
        f"{target}: {number} failed within {BURST_S:.0f} s{causes}, the last with: "
        f"{burst.last}{after}"
    )
