"""Asking systemd-resolved for a name while it is not to look into the hosts file.

Its stub at 127.0.0.53 answers from our own section. Over its Varlink socket, which the C library's
nss-resolve uses too, it can be told not to (org.freedesktop.resolve1(5)); and it alone knows which
domain is asked at which network's server.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from ngrokd.errors import ProtocolError

SOCKET = Path("/run/systemd/resolve/io.systemd.Resolve")
MAX_REPLY = 65536  # bytes; a name with a hundred addresses is far below

_BY_DNS = 1 << 0
_NO_SEARCH = 1 << 8
_NO_SYNTHESIZE = 1 << 11  # nothing of the hosts file

_CERTAIN = frozenset(
    ("io.systemd.Resolve.NoSuchResourceRecord", "io.systemd.Resolve.DNSError")
)
_NO_SUCH_NAME = 3
_LENGTHS = (4, 16)


def ask(names: Iterable[str], path: Path, until: float) -> dict[str, tuple[str, ...]]:
    """The addresses of those it is certain of, none if a name has none. Any thread.

    `until`: monotonic. Raises OSError where it is not to be had, and ProtocolError.
    """
    found: dict[str, tuple[str, ...]] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(max(0.01, until - time.monotonic()))
        link.connect(str(path))
        for name in names:
            link.sendall(question(name))
            reply = _reply(link, until)
            if reply is None:
                break
            addresses = answer(reply)
            if addresses is not None:
                found[name] = addresses
    return found


def question(name: str) -> bytes:
    """The call, with the NUL that ends it."""
    flags = _BY_DNS | _NO_SEARCH | _NO_SYNTHESIZE
    call = {
        "method": "io.systemd.Resolve.ResolveHostname",
        "parameters": {"name": name, "flags": flags},
    }
    return json.dumps(call).encode() + b"\0"


def answer(reply: bytes) -> Optional[tuple[str, ...]]:
    """The addresses; None: it could not find out. Raises ProtocolError."""
    try:
        told = json.loads(reply)
        parameters = told.get("parameters") or {}
        error = told.get("error")
        if error is None:
            listed = [list(each["address"]) for each in parameters["addresses"]]
            known = [bytes(octets) for octets in listed if len(octets) in _LENGTHS]
            return tuple(str(ipaddress.ip_address(octets)) for octets in known)
        if error not in _CERTAIN:
            return None
        return () if parameters.get("rcode", _NO_SUCH_NAME) == _NO_SUCH_NAME else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ProtocolError(f"systemd-resolved answered what it should not: {exc}") from exc


def _reply(link: socket.socket, until: float) -> Optional[bytes]:
    """Up to its NUL; None: not in time."""
    received = b""
    while not received.endswith(b"\0"):
        left = until - time.monotonic()
        if left <= 0:
            return None
        link.settimeout(left)
        try:
            piece = link.recv(MAX_REPLY)
        except socket.timeout:
            return None
        received += piece
        if not piece or len(received) > MAX_REPLY:
            raise ProtocolError("systemd-resolved ended in the middle of an answer")
    return received[:-1]
