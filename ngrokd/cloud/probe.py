"""Looks whether the ingress is trusted: a handshake that verifies, after which nothing is sent.

For a pool thread. A client's connection that is refused tells only OpenSSL's reason; this one also
learns which certificate was presented.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Callable

from ngrokd.cloud import facts
from ngrokd.cloud.distrust import Finding, Verdict, verdict_of
from ngrokd.cloud.presented import Observer
from ngrokd.model import Address

TIMEOUT_S = 10.0  # for all addresses together
READ_BYTES = 16 * 1024
# A chain of a few certificates has some KB; a server that never ends its handshake is stopped here.
MAX_BYTES = 256 * 1024

# What this machine has no more of: it says nothing of the ingress.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# X509_V_ERR_UNSPECIFIED: where OpenSSL has no code of its own for what it refuses.
_UNSPECIFIED = 1


def look(
    make_context: Callable[[], ssl.SSLContext],
    name: str,
    addresses: Sequence[Address],
    timeout_s: float = TIMEOUT_S,
) -> Finding:
    """What the first address that can be judged shows, a trusted one before all others.

    `make_context` may raise StateError.
    """
    context = make_context()  # of its own: what a handshake shows is observed by context
    observer = Observer(context)
    best = Finding(Verdict.UNREACHABLE, "it has no address")
    until = time.monotonic() + timeout_s
    for number, address in enumerate(addresses):
        now = time.monotonic()
        deadline = now + (until - now) / (len(addresses) - number)
        found = _look_at(context, observer, name, address, deadline)
        if found.verdict is Verdict.TRUSTED:
            return found
        if number == 0 or found.distrusts > best.distrusts:
            best = found  # the resolver puts those last that this machine has no way to
    return best


def _look_at(
    context: ssl.SSLContext, observer: Observer, name: str, address: Address, deadline: float
) -> Finding:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        with socket.create_connection((address.ip, address.port), _left(deadline)) as connection:
            try:
                _shake_hands(tls, incoming, outgoing, connection, deadline)
            finally:
                # Our Finished, or the alert that says why not; the verdict is there already.
                with contextlib.suppress(OSError):
                    connection.sendall(outgoing.read())
    except ssl.SSLCertVerificationError as exc:
        return _refused(exc, observer, tls)
    except ssl.SSLError as exc:
        said = (exc.reason or str(exc)).replace("_", " ").lower()
        return Finding(Verdict.UNREACHABLE, f"TLS failed: {said}")
    except OSError as exc:
        verdict = Verdict.UNKNOWN if exc.errno in _OURS else Verdict.UNREACHABLE
        return Finding(verdict, (exc.strerror or str(exc) or "it does not answer").lower())
    return Finding(Verdict.TRUSTED)


def _shake_hands(
    tls: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    connection: socket.socket,
    deadline: float,
) -> None:
    """Raises OSError: the handshake failed, or the deadline has passed."""
    taken = 0
    while True:
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            connection.settimeout(_left(deadline))
            connection.sendall(outgoing.read())
            data = connection.recv(READ_BYTES)
        taken += len(data)
        if not data or taken > MAX_BYTES:
            raise ConnectionError("it ends the connection in the handshake")
        incoming.write(data)


def _refused(
    exc: ssl.SSLCertVerificationError, observer: Observer, tls: ssl.SSLObject
) -> Finding:
    der = observer.certificate(tls)
    try:
        presented = facts.read(der) if der else None
    except ValueError:  # OpenSSL reads more than we do; it cannot be shown then
        presented = None
    why = "".join(char if char.isprintable() else "?" for char in exc.verify_message or "")
    return Finding(verdict_of(getattr(exc, "verify_code", _UNSPECIFIED)), why, presented)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left
