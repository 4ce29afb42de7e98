"""Faults of a tunnel in words: what happened, why, and what mends it."""

from __future__ import annotations

import errno
import os
import ssl

from ngrokd.errors import ProtocolError
from ngrokd.forward.sockets import NO_DESCRIPTOR
from ngrokd.forward.tunnel import TunnelState, UpgradeRefused

TEXT_LIMIT = 400  # characters of a peer's words that go into a log line

STAGES = {
    TunnelState.CONNECTING: "while connecting",
    TunnelState.HANDSHAKING: "during the TLS handshake",
    TunnelState.UPGRADING: "before it answered the request for the endpoint",
    TunnelState.OPEN: "while the connection was open",
}
REACH = "see `ingressEndpoint`, and whether a firewall stands between"
WAITS = {
    TunnelState.CONNECTING: f"it did not accept a TCP connection in time: {REACH}",
    TunnelState.HANDSHAKING: "it did not complete the TLS handshake in time",
    TunnelState.UPGRADING: "it did not answer the request for the endpoint in time",
}

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of openssl/x509_vfy.h
NAME_MISMATCH = frozenset({62, 64})
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of the same file
WRONG_TIME = frozenset({9, 10})
# Alerts by which a server refuses a client's certificate (RFC 8446 6.2), as OpenSSL names them.
# A decrypt error is what a signature by an authority of the same name but another key gives.
CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR")

NOT_OURS = (
    "it refused our certificate: `server.client_cert` must be the one that ngrok issued to this "
    "operator and still be valid; `ngrokctl rotate-cert` gets a new one"
)


def reason(fault: BaseException, state: TunnelState, server_name: str) -> str:
    """Why an attempt at the ingress came to nothing, or an open connection to its end."""
    if isinstance(fault, UpgradeRefused):
        return f"ngrok refused: {printable(str(fault))}"
    if isinstance(fault, ssl.SSLError):
        return _tls_reason(fault, state, server_name)
    if isinstance(fault, TimeoutError) and state in WAITS and fault.errno is None:
        return WAITS[state]
    if isinstance(fault, OSError):
        return _socket_reason(fault, state)
    if isinstance(fault, ProtocolError):
        return f"it broke the protocol: {printable(str(fault))}"
    return f"{type(fault).__name__}: {printable(str(fault))}"


def printable(text: str) -> str:
    """A peer's words, safe for a log line."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= TEXT_LIMIT else shown[:TEXT_LIMIT] + "..."


def _tls_reason(fault: ssl.SSLError, state: TunnelState, server_name: str) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return _certificate_reason(fault, server_name)
    name = getattr(fault, "reason", None) or ""  # set by OpenSSL's own faults only
    if "ALERT" in name and any(word in name for word in CERTIFICATE_ALERTS):
        return f"{NOT_OURS} (TLS alert {_alert(name)})"
    if isinstance(fault, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        text = f"it closed the connection {STAGES[state]}"
        if state is TunnelState.UPGRADING:
            return f"{text}; ngrok does that when it does not know our certificate"
        if state is TunnelState.OPEN:
            return f"{text}, without TLS's end: what came may be incomplete"
        return text
    if "ALERT" in name:
        # Before TLS 1.3 a missing client certificate is no more than a "handshake failure".
        doubt = "; it may not accept our certificate" if "HANDSHAKE_FAILURE" in name else ""
        return f"it ended TLS {STAGES[state]} with the alert {_alert(name)}{doubt}"
    return f"TLS failed {STAGES[state]}: {printable(name.lower().replace('_', ' ') or str(fault))}"


def _certificate_reason(fault: ssl.SSLCertVerificationError, server_name: str) -> str:
    issue = printable(fault.verify_message)
    if fault.verify_code in NAME_MISMATCH:
        return (
            f"its certificate is not for {server_name} ({issue}): `ingressEndpoint` must name the "
            "ingress as its certificate does"
        )
    if fault.verify_code in WRONG_TIME:
        return (
            f"its certificate is not trusted ({issue}): compare this machine's clock, see `date`; "
            "if that is right, the ingress needs a new certificate"
        )
    return (
        f"its certificate is not trusted ({issue}): if the ingress's certificate authority is your "
        "own, name its certificate in `server.ca_file`"
    )


def _alert(name: str) -> str:
    return name.split("ALERT_")[-1].lower().replace("_", " ")


def _socket_reason(fault: OSError, state: TunnelState) -> str:
    if fault.errno == errno.ECONNREFUSED:
        return f"it refused the TCP connection: {REACH}"
    if fault.errno in (errno.ECONNRESET, errno.EPIPE):
        return f"it reset the connection {STAGES[state]}"
    if fault.errno in NO_DESCRIPTOR:
        return (
            "no file descriptor is left: raise the limit (`ulimit -n`, LimitNOFILE) or set "
            "`forward.max_connections`"
        )
    said = os.strerror(fault.errno) if fault.errno else str(fault)
    return f"{said.lower()} {STAGES[state]}"
