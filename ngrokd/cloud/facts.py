"""What a certificate says of itself, read from its DER (RFC 5280 section 4.1). Pure.

`cryptography` would cost 10 MB of memory, and the standard library decodes only what it trusts.
A peer may have made the certificate to do harm: whatever it holds, `read` gives facts of bounded,
printable text, or raises ValueError.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from ngrokd.cloud import der

MAX_TEXT = 200  # characters of a name that go into a log line
# Of a certificate; those for a thousand names have 20 KB. It bounds the work, too: what takes an
# element copies what follows it.
MAX_BYTES = 32 * 1024
MAX_NAMES = 5  # of a certificate for hundreds of names

_VERSION = 0xA0  # [0] EXPLICIT, absent in version 1
_UNIQUE_IDS = (0x81, 0x82)  # [1], [2] IMPLICIT: of no meaning any more
_EXTENSIONS = 0xA3  # [3] EXPLICIT
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87  # [2], [7] IMPLICIT, of GeneralName

_BASIC_CONSTRAINTS = "2.5.29.19"
_ALTERNATIVE_NAMES = "2.5.29.17"
_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_ENCODINGS = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everybody reads it
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


@dataclass(frozen=True)
class Facts:
    """One certificate. Times are Unix seconds."""

    subject: str  # as `openssl x509 -subject` orders it: `C=US, O=ngrok Inc, CN=Intermediate CA`
    issuer: str
    not_before: float
    not_after: float
    names: tuple[str, ...]  # the first few of its subjectAltName
    is_authority: bool  # basicConstraints CA:TRUE
    sha256: str  # of the whole, as `openssl x509 -fingerprint -sha256` prints it


def read(content: bytes) -> Facts:
    """The facts of a DER certificate. ValueError: it is none, or larger than MAX_BYTES."""
    if len(content) > MAX_BYTES:
        raise ValueError("its certificate is too large")
    try:
        return _facts(content)
    except IndexError as exc:
        raise ValueError("its certificate is cut short") from exc


def colons(digest: bytes) -> str:
    """A fingerprint as openssl prints it."""
    return ":".join(f"{byte:02X}" for byte in digest)


def _facts(content: bytes) -> Facts:
    certificate, trailing = der.take(content, der.SEQUENCE)
    if trailing:
        raise ValueError("something follows its certificate")
    rest, _ = der.take(certificate, der.SEQUENCE)  # TBSCertificate
    rest = der.skip_optional(rest, _VERSION)
    _, rest = der.take(rest, der.INTEGER)  # serialNumber
    _, rest = der.take(rest, der.SEQUENCE)  # signature
    issuer, rest = der.take(rest, der.SEQUENCE)
    dates, rest = der.take(rest, der.SEQUENCE)
    subject, rest = der.take(rest, der.SEQUENCE)
    _, rest = der.take(rest, der.SEQUENCE)  # subjectPublicKeyInfo
    not_before, dates = der.take_time(dates)
    not_after, _ = der.take_time(dates)
    for tag in _UNIQUE_IDS:
        rest = der.skip_optional(rest, tag)
    extensions = dict(_extensions(rest))
    return Facts(
        subject=_name(subject),
        issuer=_name(issuer),
        not_before=not_before,
        not_after=not_after,
        names=_alternative_names(extensions.get(_ALTERNATIVE_NAMES, b"")),
        is_authority=_is_authority(extensions.get(_BASIC_CONSTRAINTS, b"")),
        sha256=colons(hashlib.sha256(content).digest()),
    )


def _name(content: bytes) -> str:
    """A distinguished name in its own order, its values marked as RFC 4514 does."""
    parts = []
    while content:
        pairs, content = der.take(content, der.SET)
        while pairs:
            pair, pairs = der.take(pairs, der.SEQUENCE)
            kind, value = der.take(pair, der.OBJECT_IDENTIFIER)
            tag, text, _ = der.take_any(value)
            name = der.dotted(kind)
            parts.append(f"{_ATTRIBUTES.get(name, name)}={_shown(tag, text)}")
    return _bounded(", ".join(parts)) or "nobody"


def _shown(tag: int, content: bytes) -> str:
    encoding = _ENCODINGS.get(tag)
    if encoding is None:
        return f"#{content[:MAX_TEXT].hex()}"
    text = content.decode(encoding, "replace")
    # An unmarked comma could make a name look as if it had another organization in it.
    return "".join(f"\\{char}" if char in ',+"\\<>;=' else char for char in text)


def _bounded(text: str) -> str:
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def _extensions(rest: bytes) -> Iterator[tuple[str, bytes]]:
    """Each extension's identifier with its value; later ones of the same kind are an error."""
    if not rest:
        return
    wrapped, _ = der.take(rest, _EXTENSIONS)
    listed, _ = der.take(wrapped, der.SEQUENCE)
    seen = set()
    while listed:
        extension, listed = der.take(listed, der.SEQUENCE)
        kind, extension = der.take(extension, der.OBJECT_IDENTIFIER)
        value, _ = der.take(der.skip_optional(extension, der.BOOLEAN), der.OCTET_STRING)
        if kind in seen:  # RFC 5280 4.2 forbids it, and which one counts would be a guess
            raise ValueError("its certificate has an extension twice")
        seen.add(kind)
        yield der.dotted(kind), value


def _is_authority(constraints: bytes) -> bool:
    if not constraints:
        return False
    content, _ = der.take(constraints, der.SEQUENCE)
    if content[:1] != bytes([der.BOOLEAN]):
        return False  # the default
    return der.take(content, der.BOOLEAN)[0] == b"\xff"  # DER has no other true


def _alternative_names(value: bytes) -> tuple[str, ...]:
    names: list[str] = []
    listed = der.take(value, der.SEQUENCE)[0] if value else b""
    while listed and len(names) < MAX_NAMES:
        tag, content, listed = der.take_any(listed)
        if tag == _DNS_NAME:
            names.append(_bounded(content.decode("ascii", "replace")))
        elif tag == _IP_ADDRESS and len(content) in (4, 16):
            names.append(str(ipaddress.ip_address(content)))
    return tuple(names)
