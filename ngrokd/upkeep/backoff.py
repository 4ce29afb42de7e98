"""How long to wait after a failure before the API is asked again. Pure."""

from __future__ import annotations

from ngrokd.errors import ApiRefused, ApiUnavailable

LONGEST_WAIT_S = 300.0  # an outage's end is noticed within this
SHORTEST_WAIT_S = 1.0
LEAST_PART = 0.1  # of what a wait may be: a wait of nearly nothing is a hammer
REFUSED_WAIT_S = 300.0  # a refused key stays refused until a person acts
# Between two renewals of which the first brought no lasting certificate; doubled each time.
RENEWAL_GAP_S, LONGEST_RENEWAL_GAP_S, SHORTEST_RENEWAL_GAP_S = 60.0, 3600.0, 10.0


def wait_s(error: BaseException, failures: int, interval_s: float, random: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 or more).

    `interval_s` is what is waited while nothing fails, `random` from 0 up to 1. Full jitter: any
    time up to a bound that is doubled with each failure, so that machines which failed together
    do not come back together.
    """
    if isinstance(error, ApiRefused):
        return max(REFUSED_WAIT_S, interval_s) * (1 + random / 2)
    if isinstance(error, ApiUnavailable) and error.rate_limited:
        return limited_s(error, longest_s(interval_s, failures), random)
    bound = max(2 * SHORTEST_WAIT_S, longest_s(interval_s, failures - 1))
    least = max(SHORTEST_WAIT_S, bound * LEAST_PART)
    asked = error.retry_after_s if isinstance(error, ApiUnavailable) else None
    return (asked or 0.0) + least + (bound - least) * random


def limited_s(error: ApiUnavailable, bound_s: float, random: float) -> float:
    """Seconds to wait after the account was told that it asks too often.

    At least half of `bound_s` (ngrok counts over a rolling minute: what is refused now is mostly
    refused in a moment, too) and what `Retry-After` says; then any part of `bound_s`, or all
    who were refused together would be again.
    """
    return max(error.retry_after_s or 0.0, bound_s / 2) + bound_s * random


def longest_s(interval_s: float, doublings: int) -> float:
    """The interval, doubled so many times, but no longer than an outage may go on unnoticed."""
    return max(interval_s, min(interval_s * 2.0 ** min(doublings, 16), LONGEST_WAIT_S))


def renewal_gap_s(in_a_row: int, left_s: float) -> float:
    """Seconds until a certificate that was due as it came is renewed, for the n-th time in a row.

    `left_s`: of its life. A short one is no reason to be without a certificate in between.
    """
    gap = min(RENEWAL_GAP_S * 2.0 ** min(in_a_row - 1, 16), LONGEST_RENEWAL_GAP_S)
    return max(SHORTEST_RENEWAL_GAP_S, min(gap, left_s / 2))
