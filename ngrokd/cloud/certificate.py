"""When a PEM certificate is valid, read from its own bytes.

The standard library has no documented way to do this: `SSLContext.get_ca_certs()` decodes CA
certificates only, and `cryptography` costs 10 MB of memory at every start. A side file with the
dates would be missing exactly when a certificate came from elsewhere. So this walks the few
fields of RFC 5280 section 4.1 that stand before `validity`, and trusts nothing it walks over.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----"
)
_TIME = re.compile(r"([0-9]{4})" + r"([0-9]{2})" * 5 + "Z")  # `strptime` loads half a MB of locale

MAX_SKEW_S = 300.0  # a clock may be this much behind ngrok's

# DER tags (X.690).
_INTEGER = 0x02
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18
_SEQUENCE = 0x30
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
    der = base64.b64decode("".join(found.group(1).split()), validate=True)
    try:
        return _validity_of(der)
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


def _validity_of(der: bytes) -> Validity:
    certificate, _ = _take(der, _SEQUENCE)
    rest, _ = _take(certificate, _SEQUENCE)  # TBSCertificate
    if rest[0] == _VERSION:
        _, rest = _take(rest, _VERSION)
    _, rest = _take(rest, _INTEGER)  # serialNumber
    _, rest = _take(rest, _SEQUENCE)  # signature
    _, rest = _take(rest, _SEQUENCE)  # issuer
    dates, _ = _take(rest, _SEQUENCE)
    not_before, dates = _take_time(dates)
    not_after, _ = _take_time(dates)
    return Validity(not_before, not_after)


def _take(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content of the element at the start, what follows it). IndexError: cut short."""
    if der[0] != tag:
        raise ValueError(f"its certificate has tag {der[0]:#x} where {tag:#x} belongs")
    length, start = der[1], 2
    if length >= 0x80:  # long form: that many bytes of length follow
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("its certificate is cut short")
    return der[start : start + length], der[start + length :]


def _take_time(der: bytes) -> tuple[float, bytes]:
    tag = der[0]
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError(f"its certificate has tag {tag:#x} where a time belongs")
    content, rest = _take(der, tag)
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280 4.1.2.5.1: two-digit years below 50 are of this century
        text = ("20" if text[:2] < "50" else "19") + text
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"its certificate has {text[:20]!r} where a time belongs")
    year, month, day, hour, minute, second = map(int, found.groups())
    moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    return moment.timestamp(), rest
