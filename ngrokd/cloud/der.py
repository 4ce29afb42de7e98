"""The few elements of DER (X.690) that certificates are read with. Pure.

Nothing is trusted that is walked over: every function raises ValueError for what does not belong
there, and IndexError for what is cut short.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

BOOLEAN = 0x01
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

DAMAGED = "its certificate is damaged"  # where in its bytes helps nobody who reads of it

MAX_IDENTIFIER_BYTES = 64  # those in use have less than 20; each arc becomes one number

_TIME = re.compile(r"([0-9]{4})" + r"([0-9]{2})" * 5 + "Z")  # `strptime` loads half a MB of locale


def take(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """(content of the element at the start, what follows it)."""
    if der[0] != tag:
        raise ValueError(DAMAGED)
    length, start = der[1], 2
    if length >= 0x80:  # long form: that many bytes of length follow
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("its certificate is cut short")
    return der[start : start + length], der[start + length :]


def take_any(der: bytes) -> tuple[int, bytes, bytes]:
    """(tag, content, what follows), whatever the element is."""
    content, rest = take(der, der[0])
    return der[0], content, rest


def skip_optional(der: bytes, tag: int) -> bytes:
    """What follows that element, if it is there at all."""
    return take(der, tag)[1] if der[:1] == bytes([tag]) else der


def take_time(der: bytes) -> tuple[float, bytes]:
    """(Unix seconds, what follows)."""
    tag = der[0]
    if tag not in (UTC_TIME, GENERALIZED_TIME):
        raise ValueError(DAMAGED)
    content, rest = take(der, tag)
    text = content.decode("ascii", "replace")
    if tag == UTC_TIME:  # RFC 5280 4.1.2.5.1: two-digit years below 50 are of this century
        text = ("20" if text[:2] < "50" else "19") + text
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(DAMAGED)
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError as exc:
        raise ValueError(f"{DAMAGED}: it has a date that no calendar has") from exc
    return moment.timestamp(), rest


def dotted(content: bytes) -> str:
    """An object identifier as people write it: `2.5.4.3`."""
    if len(content) > MAX_IDENTIFIER_BYTES:
        raise ValueError("its certificate has an identifier that is too long")
    arcs, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    first, *rest = arcs or [0]
    top = min(first // 40, 2)
    return ".".join(str(arc) for arc in (top, first - 40 * top, *rest))
