"""How long to wait before asking the API again. Pure."""

from __future__ import annotations

from ngrokd.errors import ApiRefused, ApiUnavailable

LONGEST_WAIT_S = 120.0  # an outage's end is noticed within this
REFUSED_WAIT_S = 300.0  # a refused key stays refused until a person acts
LIMITED_WAIT_S = 60.0  # ngrok counts requests over a rolling minute, per account
TOO_MANY_REQUESTS = 429
# Between two renewals of which the first brought no lasting certificate; doubled each time.
RENEWAL_GAP_S, LONGEST_RENEWAL_GAP_S, SHORTEST_RENEWAL_GAP_S = 60.0, 3600.0, 10.0


def wait_s(error: BaseException, failures: int, interval_s: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 or more)."""
    if isinstance(error, ApiRefused):
        return max(REFUSED_WAIT_S, interval_s)
    doubled = interval_s * 2.0 ** min(failures - 1, 16)
    wait = max(interval_s, min(doubled, LONGEST_WAIT_S))
    if isinstance(error, ApiUnavailable):
        if error.retry_after_s is not None:
            return max(wait, error.retry_after_s)
        if error.status == TOO_MANY_REQUESTS:
            return max(wait, LIMITED_WAIT_S)
    return wait


def renewal_gap_s(in_a_row: int, left_s: float) -> float:
    """Seconds until a certificate that was due as it came is renewed, for the n-th time in a row.

    `left_s`: of its life. A short one is no reason to be without a certificate in between.
    """
    gap = min(RENEWAL_GAP_S * 2.0 ** min(in_a_row - 1, 16), LONGEST_RENEWAL_GAP_S)
    return max(SHORTEST_RENEWAL_GAP_S, min(gap, left_s / 2))
