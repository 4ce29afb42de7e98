"""When a certificate that is not renewed is to be spoken of."""

from __future__ import annotations

from typing import Optional

from ngrokd.cloud.certificate import Validity
from ngrokd.cloud.registration import DAY_S

WARN_DAYS = (14, 7, 3, 1, 0)  # before its end; one line for each


def threshold(validity: Validity, now: float) -> Optional[int]:
    """The last of `WARN_DAYS` that has come; None: none has. `now`: Unix seconds."""
    left = (validity.not_after - now) / DAY_S
    return min((days for days in WARN_DAYS if left <= days), default=None)


def left_in_words(validity: Validity, now: float) -> str:
    """`ends in 6.9 days`, `has ended`."""
    left = validity.not_after - now
    if left <= 0:
        return "has ended"
    if left >= DAY_S:
        return f"ends in {left / DAY_S:.1f} days"
    return f"ends in {left / 3600:.1f} hours" if left >= 3600 else f"ends in {left:.0f} s"
