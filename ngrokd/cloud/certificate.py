"""The PEM certificates in a text, and when they are valid, read from their own bytes.

The standard library has no documented way to do this: `SSLContext.get_ca_certs()` decodes CA
certificates only, and `cryptography` costs 10 MB of memory at every start. A side file with the
dates would be missing exactly when a certificate came from elsewhere. So this walks the few
fields of RFC 5280 section 4.1 that stand before `validity`, and trusts nothing it walks over.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from ngrokd.cloud import der

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_LINE = 64  # characters, RFC 7468 section 2
# Of an answer's certificate and its chain: ngrok's have 1 to 2 KB each, and few make a chain.
MAX_CHARACTERS = 64 * 1024

MAX_SKEW_S = 300.0  # a clock may be this much behind ngrok's

_VERSION = 0xA0  # [0] EXPLICIT, absent in version 1


@dataclass(frozen=True)
class Validity:
    """From when to when; Unix seconds."""

    not_before: float
    not_after: float


def validity(pem: str) -> Validity:
    """The validity of the first certificate in `pem` (the leaf). ValueError: it is none."""
    content = next(_contents(pem), None)
    if content is None:
        raise ValueError("it holds no PEM certificate")
    try:
        return _validity_of(content)
    except IndexError as exc:
        raise ValueError("its certificate is cut short") from exc


def certificates_of(text: str) -> str:
    """The certificates in a text that others sent, written anew. ValueError: it is not usable.

    Nothing else comes along: what is kept is a file that everyone may read.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it is longer than {MAX_CHARACTERS >> 10} KiB")
    if not text.isascii():
        raise ValueError("it holds characters that are not ASCII")
    pems = [pem_of(content) for content in _contents(text)]
    if not pems:
        raise ValueError("it holds no PEM certificate")
    return "".join(pems)


def pem_of(content: bytes) -> str:
    """A certificate (DER) as PEM."""
    text = base64.b64encode(content).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join([_BEGIN, *lines, _END, ""])


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


def _contents(text: str) -> Iterator[bytes]:
    """The certificates in `text`, as DER. ValueError: one is damaged.

    Every character is looked at once, however many blocks are begun and never ended.
    """
    begin = text.find(_BEGIN)
    while begin >= 0:
        start = begin + len(_BEGIN)
        end = text.find(_END, start)
        if end < 0:
            raise ValueError("its certificate has no end")
        try:
            yield base64.b64decode("".join(text[start:end].split()), validate=True)
        except binascii.Error as exc:
            raise ValueError("its certificate is damaged: it is not base64") from exc
        begin = text.find(_BEGIN, end + len(_END))


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
