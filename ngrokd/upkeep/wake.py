"""Decides what follows when the clock jumped or a network came, and how soon.

Theory of operation. A jump is rare, and acted on at once. Networks may come every second (a host of
containers), so what they bring about has bounds: a link, its addresses and its route are waited for
and count as one; while ngrok answers, polls come twice as often as they would at most; while it
cannot be reached, one try is made each `TRY_GAP_S` at most; and an API that answers, but with
"wait" or "no", is not asked sooner because of a network. What cannot be done yet stays due.

Connections are judged apart from polls: a dead one would cost the next client, who does not wait
for the next poll.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Optional

from ngrokd.errors import ApiError, ApiUnavailable
from ngrokd.model import NetworkCame
from ngrokd.upkeep.clock import jump_text

SETTLE_S = 0.5  # DHCP and IPv6 give an address and a route one after the other
TRY_GAP_S = 5.0  # from one try to the next while ngrok cannot be reached
# Of the spacing, from one poll to the next while ngrok answers. A poll out of turn is followed by
# one in turn after any part of the spacing (`pace`): this makes it twice as often on the average.
POLL_GAP_PART = 0.7
JUDGE_GAP_S = 5.0  # from one look at the warm connections to the next: handshakes are dear


class Api(enum.Enum):
    """What the API's last answer was."""

    ANSWERS = "answers"  # or has not been asked yet
    UNREACHED = "unreached"  # no answer, or none of the API's: a network may mend it
    FORBIDS = "forbids"  # it refuses us, or asks for patience: a network changes nothing


@dataclass(frozen=True)
class Todo:
    """What is due now; at least one of `poll` and `judge` is set."""

    why: str  # for the log
    poll: bool  # judge the certificate's age and ask ngrok, with the back-off begun anew
    judge: bool  # drop the warm connections that were made before
    addresses: Optional[frozenset[str]]  # only those made from these; None: all
    is_news: bool  # more than what a host of containers sees every second

    @property
    def resolve(self) -> bool:
        """The ingress's name is to be resolved again."""
        return self.poll or self.addresses is None


class Wake:
    """Owner: main thread. Times are monotonic."""

    def __init__(self) -> None:
        self._jump_s = 0.0
        self._came: Optional[NetworkCame] = None  # connections are to be judged for it
        self._judge_at = math.inf
        self._poll_for = ""  # what came, so that a poll is to be made
        self._poll_from = math.inf
        self._asked_at = -math.inf
        self._judged_at = -math.inf
        self._under_way = 0
        self._api = Api.ANSWERS

    # What happens

    def jumped(self, seconds: float) -> None:
        """The wall clock jumped: `ClockWatch.look`."""
        self._jump_s = seconds

    def came(self, network: NetworkCame, now: float) -> None:
        """A network came."""
        if self._came is None:
            self._judge_at = max(now + SETTLE_S, self._judged_at + JUDGE_GAP_S)
        self._came = network if self._came is None else self._came.and_also(network)
        if not self._poll_for:
            self._poll_for, self._poll_from = network.what, now + SETTLE_S

    def asked(self, now: float) -> None:
        """A request to the API begins."""
        self._under_way += 1
        self._asked_at = now
        if now >= self._poll_from:
            self._no_poll_due()

    def answered(self, error: Optional[BaseException]) -> None:
        """It ended."""
        self._under_way -= 1
        self._api = _judged(error)

    # What follows

    def due(self, now: float, spacing_s: float) -> Optional[Todo]:
        """What is to be done now, once; `spacing_s` is what is between two polls while
        nothing fails."""
        if self._jump_s:
            why, self._jump_s = jump_text(self._jump_s), 0.0
            self._no_poll_due()
            self._judge(now)
            return Todo(why, poll=True, judge=True, addresses=None, is_news=True)
        poll, judge = now >= self._poll_at(spacing_s), now >= self._judge_at
        if not poll and not judge:
            return None
        why = self._poll_for
        if poll:
            self._no_poll_due()
        came = self._judge(now) if judge else None
        addresses = frozenset() if came is None else came.addresses
        return Todo(
            came.what if came else why,
            poll,
            judge,
            None if came is not None and came.everywhere else addresses,
            is_news=poll and self._api is Api.UNREACHED,
        )

    def wait_s(self, now: float, spacing_s: float) -> float:
        """Seconds until something is due; infinite: nothing will be by itself."""
        if self._jump_s:
            return 0.0
        return max(0.0, min(self._poll_at(spacing_s), self._judge_at) - now)

    def _poll_at(self, spacing_s: float) -> float:
        """Never while one is under way: its answer decides how long the next one waits."""
        if self._under_way or self._api is Api.FORBIDS:
            return math.inf
        gap_s = TRY_GAP_S if self._api is Api.UNREACHED else POLL_GAP_PART * spacing_s
        return max(self._poll_from, self._asked_at + gap_s)

    def _no_poll_due(self) -> None:
        self._poll_for, self._poll_from = "", math.inf

    def _judge(self, now: float) -> Optional[NetworkCame]:
        came, self._came = self._came, None
        self._judge_at, self._judged_at = math.inf, now
        return came


def _judged(error: Optional[BaseException]) -> Api:
    if error is None:
        return Api.ANSWERS
    if isinstance(error, ApiUnavailable):
        patience = error.retry_after_s is not None or error.rate_limited
        return Api.FORBIDS if patience else Api.UNREACHED
    return Api.FORBIDS if isinstance(error, ApiError) else Api.UNREACHED
