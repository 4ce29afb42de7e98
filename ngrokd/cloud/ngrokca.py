"""Whether a file is the CA certificate that ngrok's ingress is signed by. Pure.

ngrok signs its ingress with an intermediate CA of its own, which no system knows. It publishes that
certificate; here is only its fingerprint, so it does not matter over which way the file came.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone

from ngrokd.cloud import facts
from ngrokd.cloud.certificate import pem_of
from ngrokd.cloud.facts import Facts

URL = "https://raw.githubusercontent.com/ngrok/ngrok-operator/main/certs/ngrok-ca.crt"
# CN=Intermediate CA, O=ngrok Inc, valid until 2032-08-28.
SHA256 = (
    "CF:CE:8A:27:B7:4E:0C:51:C6:54:73:9A:35:3E:51:C1:"
    "35:26:0B:5B:97:7D:29:DF:67:03:8B:E7:EF:6F:F8:47"
)
MAX_BYTES = 32 * 1024  # of a file with one certificate; ngrok's has 1.5 KB. A request may have 64

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN = b"-----BEGIN "
_DIGITS = re.compile(r"[0-9A-F]{64}")


@dataclass(frozen=True)
class Anchor:
    """A CA certificate that may be trusted."""

    pem: str  # nothing but the certificate
    facts: Facts


def normal_fingerprint(text: str) -> str:
    """A SHA-256 as openssl prints it, with colons or without. ValueError: it is none."""
    digits = text.strip().replace(":", "").upper()
    if not _DIGITS.fullmatch(digits):
        raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits, with colons or without")
    return facts.colons(bytes.fromhex(digits))


def anchor(content: bytes, sha256: str, now: float) -> Anchor:
    """The CA certificate in `content`, whose fingerprint is to be `sha256`.

    `now`: Unix seconds. ValueError: why it is not to be trusted, to follow its name.
    """
    der = _only_certificate(content)
    try:
        found = facts.read(der)
    except ValueError as exc:
        raise ValueError(f"cannot be read: {exc}") from exc
    what = f"holds the certificate of {found.subject}, SHA-256 {found.sha256}"
    if found.sha256 != sha256:
        if sha256 != SHA256:
            raise ValueError(f"{what}, and not {sha256}")
        raise ValueError(
            f"{what}, which is not ngrok's CA ({SHA256}); to trust another one, give its"
            " fingerprint with `ngrokctl trust FILE --fingerprint SHA256`"
        )
    if not found.is_authority:
        raise ValueError(f"{what}, which is not the certificate of a CA")
    if now > found.not_after:
        raise ValueError(f"{what}, which ended on {day(found.not_after)}: see `date`")
    if now < found.not_before:
        raise ValueError(f"{what}, which begins on {day(found.not_before)}: see `date`")
    pem = pem_of(der)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except ssl.SSLError as exc:  # `facts` reads no more than it tells
        raise ValueError(f"{what}, which OpenSSL cannot read ({exc.reason or exc})") from exc
    return Anchor(pem, found)


def holds(content: bytes, sha256: str) -> bool:
    """Whether that certificate is among those in a PEM file."""
    for piece in content.split(_BEGIN + b"CERTIFICATE-----")[1:]:
        body, _, _ = piece.partition(b"-----END")
        try:
            if facts.read(_decoded(body)).sha256 == sha256:
                return True
        except ValueError:
            continue  # whatever it is, it is not the one
    return False


def day(seconds: float) -> str:
    """A day, of Unix seconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def _only_certificate(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES >> 10} KiB: it is no file of one certificate")
    if content.count(_BEGIN) > 1:
        raise ValueError(f"holds {content.count(_BEGIN)} PEM blocks: it must be one certificate")
    block = _BLOCK.search(content)
    if block is None:
        raise ValueError("holds no PEM certificate")
    kind, body = block.groups()
    if kind != b"CERTIFICATE":
        raise ValueError(f"holds no certificate but a {kind.decode().lower()}")
    return _decoded(body)


def _decoded(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as exc:
        raise ValueError("is damaged: its certificate is not base64") from exc
