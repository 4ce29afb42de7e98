"""How many connections are in service at once, and which one ends where another waits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from ngrokd.control.visit import Phase, Visit

HURRY_S = 0.1  # for a request to come, if others need the place: programs send theirs at once


@dataclass(frozen=True)
class Room:
    """How many connections are in service at once, and when one may be cut to make a place."""

    places: int
    cut_s: float = math.inf  # seconds in which its answer was not taken


def make_a_place(staying: Iterable[Visit], room: Room, now: float) -> Optional[float]:
    """Ends what has outstayed, and of those that are waited for the one that kept us longest.

    Returns when to look again, in seconds; None: nobody is waited for.
    """
    waits = []
    idle = []
    for visit in staying:
        phase, since = visit.standing
        if visit.dismissed:
            continue
        if phase is Phase.AWAITED:
            idle.append((since + HURRY_S, visit))
        elif phase is Phase.TAKING:
            waits.append(since + room.cut_s - now)
            if waits[-1] <= 0:
                visit.cut()
    if idle:
        since, idlest = min(idle, key=lambda found: found[0])
        waits.append(since - now)
        if since <= now:
            idlest.dismiss()
    return max(HURRY_S / 2, min(waits)) if waits else None
