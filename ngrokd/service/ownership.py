"""What of a state folder is provably ngrokd's own: by where it is, and by what is in its files."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Optional

# Folders of the system: nothing in them is ours, whatever a configuration says.
_SYSTEM = frozenset(
    (
        *("bin", "boot", "dev", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr"),
        *("Applications", "System"),
    )
)
_SETTINGS = ("etc", "Library")
_OF_MANY = ("home", "Users", "var", "Volumes")
_PRIVATE = "private"  # where macOS has /etc, /tmp and /var, which are links to there
_NAME = "ngrokd"  # a folder of this name below one of those that are everybody's

_WORD = re.compile(rb"[\x21-\x7e]{1,4096}\n?")
_OPERATOR = re.compile(rb"[A-Za-z0-9._:-]{1,200}\n?")
_INSTALLATION = re.compile(rb"[0-9a-f]{32}\n?")
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----([A-Za-z0-9+/=\s]+)-----END [A-Z ]+-----")

_SEQUENCE, _INTEGER, _VERSION = 0x30, 0x02, 0xA0  # DER


def is_system_folder(path: str) -> bool:
    """`path`: without links. /etc/ngrokd is not one, /etc, /etc/ssl/private and /var/lib are."""
    words = [word for word in path.split("/") if word]
    if words[:1] == [_PRIVATE]:
        del words[0]
    if len(words) < 2 or words[0] in _SYSTEM:
        return True
    if words[0] in _SETTINGS:
        return not words[-1].startswith(_NAME)
    return words[0] in _OF_MANY and len(words) < 3


def is_named_so(path: str) -> bool:
    """It is a folder of ngrokd's by its name."""
    return path.rpartition("/")[2] == _NAME


def is_proof(installation_id: bytes) -> bool:
    """The content of a file that nobody else's folder has."""
    return bool(_INSTALLATION.fullmatch(installation_id))


def is_state(name: str, content: bytes) -> bool:
    """It holds what ngrokd writes under this name, or what a power cut leaves of that."""
    known = _CONTENTS.get(name)
    return known is not None and (not content.strip(b"\0") or known(content))


def public_key(pem: bytes, of_request: bool = False) -> Optional[bytes]:
    """The public key (SubjectPublicKeyInfo) of a certificate, as DER; None: it is none.

    `of_request`: of a signing request, and without a subject, as ngrokd makes it.
    """
    try:
        body, _ = _take(_take(_der(pem), _SEQUENCE)[0], _SEQUENCE)
        if of_request:
            _, body = _take(body, _INTEGER)
            subject, body = _take(body, _SEQUENCE)
            if subject:
                return None
        else:
            body = _take(body, _VERSION)[1] if body[0] == _VERSION else body
            _, body = _take(body, _INTEGER)
            for _ in range(4):  # signature, issuer, validity, subject
                _, body = _take(body, _SEQUENCE)
        _, after = _take(body, _SEQUENCE)
        return body[: len(body) - len(after)]
    except (ValueError, IndexError):
        return None


def is_key_of(pem: bytes, public: bytes) -> bool:
    """A private key of an elliptic curve carries its public one."""
    try:
        return len(public) > _POINT and public[-_POINT:] in _der(pem)
    except ValueError:
        return False


_POINT = 64  # of P-256: its end is the point itself


def _der(pem: bytes) -> bytes:
    """ValueError: it is not one block of PEM."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("it is no PEM")
    try:
        return base64.b64decode(b"".join(found.group(1).split()), validate=True)
    except binascii.Error as exc:
        raise ValueError("it is no PEM") from exc


def _take(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the element at the start, and what follows. ValueError, IndexError: none."""
    if der[0] != tag:
        raise ValueError("another element")
    length, start = der[1], 2
    if length >= 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("cut short")
    return der[start : start + length], der[start + length :]


def _object(content: bytes) -> Optional[dict[str, object]]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _has(*keys: str, also: tuple[str, ...] = ()) -> Callable[[bytes], bool]:
    """Has all of these members, maybe some of `also`, and no other."""

    def check(content: bytes) -> bool:
        document = _object(content)
        return document is not None and set(keys) <= set(document) <= {*keys, *also}

    return check


def _maps_to(kind: type) -> Callable[[bytes], bool]:
    def check(content: bytes) -> bool:
        document = _object(content)
        return document is not None and all(type(value) is kind for value in document.values())

    return check


_CONTENTS: dict[str, Callable[[bytes], bool]] = {
    "operator_id": lambda content: bool(_OPERATOR.fullmatch(content)),
    "installation_id": lambda content: bool(_INSTALLATION.fullmatch(content)),
    "api_key": lambda content: bool(_WORD.fullmatch(content)),
    "registration.json": _has(
        "operator_id", "ingress_endpoint", also=("selectors", "host_name", "version", "left")
    ),
    "endpoints.json": _has("endpoints", "skipped"),
    "ip_mappings.json": _maps_to(str),
    "network_ports.json": _maps_to(int),
    "last_run.json": _has("used"),
    "aliases.json": _has("boot", "addresses"),
}
STATE = tuple(_CONTENTS)
