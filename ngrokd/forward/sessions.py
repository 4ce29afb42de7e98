"""TLS sessions of earlier connections: with one of them a handshake costs less than half."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Optional

from ngrokd.forward.tls import Tls
from ngrokd.model import Address, Ingress

# Taking a session out of a connection copies it. Tickets live for hours (RFC 8446 4.6.1: 7 days at
# most), so one is used for minutes before it is replaced by a fresh one.
FRESH_S = 300.0
SESSIONS_KEPT = 16  # one an address; more than any name of ngrok's has addresses
# A resumed handshake shows no certificate, and brings a session that can be resumed again. So the
# ingress has to show it anew after this time, and once the one that it has shown has ended.
VERDICT_S = 3600.0


@dataclass(frozen=True)
class _Kept:
    """A session, with what it rests on."""

    session: ssl.SSLSession
    since: float  # monotonic
    verified_at: float  # monotonic: the last whole handshake
    not_after: float  # Unix seconds: of the certificate that was shown then


class Sessions:
    """One session an address, all of the ingress that is served. Owner: forward.

    A session carries the verdict on the ingress's certificate, and our own certificate. So all are
    dropped with the context, which is made anew for a new certificate or CA, and with the name.
    """

    def __init__(self) -> None:
        self._of: Optional[tuple[ssl.SSLContext, str]] = None
        self._sessions: dict[Address, _Kept] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def serve(self, ingress: Optional[Ingress]) -> bool:
        """New connections go there; whether that made older sessions useless."""
        of = _identity(ingress) if ingress else None
        if of == self._of:
            return False
        self._of = of
        self._sessions.clear()
        return True

    def get(
        self, ingress: Ingress, address: Address, now: float, date: float
    ) -> Optional[ssl.SSLSession]:
        """What a new connection may resume. `now` is monotonic, `date` in Unix seconds."""
        found = self._sessions.get(address)
        if found is None or self._of != _identity(ingress):
            return None
        if now - found.verified_at >= VERDICT_S or date >= found.not_after:
            del self._sessions[address]
            return None
        return found.session

    def learn(self, ingress: Ingress, address: Address, tls: Tls, now: float) -> None:
        """A connection has been answered, so its tickets have come (TLS 1.3: after the handshake).

        `now` is monotonic.
        """
        if self._of != _identity(ingress) or tls.fault is not None:
            return  # it began before a change, or OpenSSL tells nothing of it any more
        known = self._sessions.get(address)
        if tls.resumed and (known is None or now - known.since < FRESH_S):
            return
        session = tls.session
        if session is None or not (session.has_ticket or session.id):
            return
        verified_at, not_after = now, tls.peer_not_after
        if tls.resumed and known is not None:
            verified_at, not_after = known.verified_at, known.not_after
        self._sessions.pop(address, None)
        if len(self._sessions) >= SESSIONS_KEPT:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[address] = _Kept(session, now, verified_at, not_after)


def _identity(ingress: Ingress) -> tuple[ssl.SSLContext, str]:
    return ingress.context, ingress.server_name
