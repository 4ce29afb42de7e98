"""TLS sessions of earlier connections: with one of them a handshake costs less than half."""

from __future__ import annotations

import ssl
from typing import Optional

from ngrokd.forward.tls import Tls
from ngrokd.model import Address, Ingress

# Taking a session out of a connection copies it. Tickets live for hours (RFC 8446 4.6.1: 7 days at
# most), so one is used for minutes before it is replaced by a fresh one.
FRESH_S = 300.0
SESSIONS_KEPT = 16  # one an address; more than any name of ngrok's has addresses


class Sessions:
    """One session an address, all of the ingress that is served. Owner: forward.

    A session carries the verdict on the ingress's certificate, and our own certificate. So all are
    dropped with the context, which is made anew for a new certificate or CA, and with the name.
    """

    def __init__(self) -> None:
        self._of: Optional[tuple[ssl.SSLContext, str]] = None
        self._sessions: dict[Address, tuple[ssl.SSLSession, float]] = {}

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

    def get(self, ingress: Ingress, address: Address) -> Optional[ssl.SSLSession]:
        """What a new connection may resume."""
        if self._of != _identity(ingress):
            return None
        found = self._sessions.get(address)
        return found[0] if found else None

    def learn(self, ingress: Ingress, address: Address, tls: Tls, now: float) -> None:
        """A connection has been answered, so its tickets have come (TLS 1.3: after the handshake).

        `now` is monotonic.
        """
        if self._of != _identity(ingress):
            return  # it began before a change
        known = self._sessions.get(address)
        if known is not None and tls.resumed and now - known[1] < FRESH_S:
            return
        session = tls.session
        if session is None or not (session.has_ticket or session.id):
            return
        self._sessions.pop(address, None)
        if len(self._sessions) >= SESSIONS_KEPT:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[address] = (session, now)


def _identity(ingress: Ingress) -> tuple[ssl.SSLContext, str]:
    return ingress.context, ingress.server_name
