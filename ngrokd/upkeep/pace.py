"""When the endpoints are asked for: so seldom that an account of many machines keeps its limit.

ngrok grants an account 120 requests in any 60 s, and no machine knows how many others there are.

- A poll follows the last one after the spacing, 10 % more or less. The spacing is `poll_interval`.
- A poll that is refused because the account asks too often doubles the spacing, up to 5 minutes;
  each one that succeeds takes 2 % off. So all machines share the limit, and about three refusals in
  a hundred polls tell them that it still is full.
- After a poll out of turn (start, network is back, a person asks) the next one comes after any part
  of the spacing: machines that were woken together part. A machine that has just booted, maybe with
  all the others, and serves endpoints already waits a part of `poll_interval` even before.
- After any other failure: full jitter, up to 5 minutes (`backoff`).
- Never sooner than one second for each request that the last poll took.
"""

from __future__ import annotations

from collections.abc import Callable

from ngrokd.errors import ApiUnavailable
from ngrokd.upkeep.backoff import LONGEST_WAIT_S, SHORTEST_WAIT_S, limited_s, wait_s

JITTER = 0.1  # of the spacing
WIDEN, NARROW = 2.0, 0.98
REQUEST_S = 1.0  # at least, from poll to poll, for each request
JUST_BOOTED_S = 300.0
LONGEST_START_S = 30.0  # other services of this machine may wait for the first poll


class Pace:
    """Spaces one machine's polls. Owner: main thread. Each answer gives the wait, in seconds."""

    def __init__(self, interval_s: float, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 up to 1."""
        self._interval_s = interval_s
        self._random = random
        self._learnt_s = 0.0  # what refusals say about the spacing
        self._failures = 0  # in a row
        self._out_of_turn = True
        self._requests = 0  # of this machine, before the poll that is under way

    @property
    def spacing_s(self) -> float:
        """What is between two polls while nothing fails."""
        return max(self._interval_s, self._learnt_s)

    def configure(self, interval_s: float) -> None:
        """Another `poll_interval`. What refusals said is still true."""
        self._interval_s = interval_s

    def first_s(self, uptime_s: float, serving: bool) -> float:
        """At the start; `serving`: endpoints that the last run knew are served meanwhile."""
        if not serving or uptime_s >= JUST_BOOTED_S:
            return 0.0
        # Machines that part over the whole interval now need not do it once more.
        self._out_of_turn = self._interval_s > LONGEST_START_S
        return min(self._interval_s, LONGEST_START_S) * self._random()

    def begins(self, requests: int) -> None:
        """A poll begins; this machine has made so many requests so far."""
        self._requests = requests

    def hurry(self) -> None:
        """The next poll is out of turn."""
        self._out_of_turn = True

    def begin_anew(self) -> None:
        """What has failed so far is no reason to wait long after the next failure."""
        self._failures = 0

    def after_success(self, requests: int) -> float:
        """A poll has succeeded; this machine has made so many requests so far."""
        self._learnt_s *= NARROW
        self._failures = 0
        part = self._random()
        if not self._out_of_turn:
            part = 1 - JITTER + 2 * JITTER * part
        self._out_of_turn = False
        return max(self.spacing_s * part, self._least_s(requests))

    def after_failure(self, error: BaseException, requests: int) -> float:
        """A poll has failed; this machine has made so many requests so far."""
        self._out_of_turn = False
        part = self._random()
        if isinstance(error, ApiUnavailable) and error.rate_limited:
            self._learnt_s = min(self.spacing_s * WIDEN, LONGEST_WAIT_S)
            wait = limited_s(error, self.spacing_s, part)
        else:
            self._failures += 1
            wait = wait_s(error, self._failures, self.spacing_s, part)
        return max(wait, self._least_s(requests))

    def _least_s(self, requests: int) -> float:
        return max(SHORTEST_WAIT_S, (requests - self._requests) * REQUEST_S)
