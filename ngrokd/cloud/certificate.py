"""When a PEM certificate is valid, read from its own bytes.

The standard library has no documented way to do this: `SSLContext.get_ca_certs()` decodes CA
certificates only, and `cryptography` costs 10 MB of memory at every start. A side file with the
dates would be missing exactly when a certificate came from elsewhere. So this walks the few
fields of RFC 5280 section 4.1 that stand before `validity`, and trusts nothing it walks over.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from ngrokd.cloud import der

_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----"
)

MAX_SKEW_S = 300.0  # a clock may be this much behind ngrok's

_VERSION = 0xA0  # [0] EXPLICIT, absent in version 1


@dataclass(frozen=True)
class Validity:
    """From when to when; Unix seconds."""

    not_before: float
    not_after: float


def validity(pem: str) -> Validity:
    """The validity of the first certificate in `pem` (the leaf). ValueError: it is none."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("it holds no PEM certificate")
    try:
        return _validity_of(base64.b64decode("".join(found.group(1).split()), validate=True))
    except binascii.Error as exc:
        raise ValueError("its certificate is damaged: it is not base64") from exc
    except IndexError as exc:
        raise ValueError("its certificate is cut short") from exc


def replacement_fault(old: Optional[Validity], new: Validity, now: float) -> str:
    """Why `new` must not replace `old`; "": it may. `now`: Unix seconds.

    A clock that is wrong cannot be told from a certificate that is. So only a certificate that is
    valid by this clock is kept from being replaced by one that is not.
    """
    if old is None or not old.not_before - MAX_SKEW_S <= now < old.not_after:
        return ""
    if new.not_before - MAX_SKEW_S <= now < new.not_after:
        return ""
    return (
        f"the certificate that ngrok sent is valid from {day(new.not_before)} to"
        f" {day(new.not_after)}, and this machine's clock says {day(now)}: compare it with `date`"
    )


def day(moment: float) -> str:
    """Unix seconds as a person reads them, in UTC."""
    try:
        return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):  # years that no calendar here has
        return "a time out of reach"


def _validity_of(content: bytes) -> Validity:
    certificate, _ = der.take(content, der.SEQUENCE)
    rest, _ = der.take(certificate, der.SEQUENCE)  # TBSCertificate
    rest = der.skip_optional(rest, _VERSION)
    _, rest = der.take(rest, der.INTEGER)  # serialNumber
    _, rest = der.take(rest, der.SEQUENCE)  # signature
    _, rest = der.take(rest, der.SEQUENCE)  # issuer
    dates, _ = der.take(rest, der.SEQUENCE)
    not_before, dates = der.take_time(dates)
    not_after, _ = der.take_time(dates)
    return Validity(not_before, not_after)
