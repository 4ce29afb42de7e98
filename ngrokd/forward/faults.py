"""Faults of a tunnel: their cause, and in words what happened, why, and what mends it."""

from __future__ import annotations

import errno
import os
import ssl

from ngrokd.errors import ProtocolError
from ngrokd.forward.sockets import NO_DESCRIPTOR, NO_MEMORY, ROUTINE_LOSS
from ngrokd.forward.tunnel import TunnelState, UpgradeCut, UpgradeRefused
from ngrokd.model import Cause, Failure

TEXT_LIMIT = 400  # characters of a peer's words that go into a log line

STAGES = {
    TunnelState.CONNECTING: "while connecting",
    TunnelState.HANDSHAKING: "during the TLS handshake",
    TunnelState.READY: "before it was asked for an endpoint",
    TunnelState.UPGRADING: "before it answered the request for the endpoint",
    TunnelState.OPEN: "while the connection was open",
}
REACH = "see `ingressEndpoint`, and whether a firewall stands between"
WAITS = {
    TunnelState.CONNECTING: Failure(
        Cause.CONNECT_TIMEOUT, f"it did not accept a TCP connection in time: {REACH}"
    ),
    TunnelState.HANDSHAKING: Failure(
        Cause.HANDSHAKE_TIMEOUT,
        "it did not complete the TLS handshake in time (`forward.connect_timeout`)",
    ),
    TunnelState.UPGRADING: Failure(
        Cause.UPGRADE_TIMEOUT,
        "it did not answer the request for the endpoint in time (`forward.connect_timeout`)",
    ),
}
# The kernel of the ingress takes a connection and its program may reset it before connect(2) has
# been seen to succeed: TCP was there.
CLOSED = {
    TunnelState.CONNECTING: Cause.CLOSED_IN_HANDSHAKE,
    TunnelState.HANDSHAKING: Cause.CLOSED_IN_HANDSHAKE,
    TunnelState.READY: Cause.CLOSED_IN_UPGRADE,
    TunnelState.UPGRADING: Cause.CLOSED_IN_UPGRADE,
    TunnelState.OPEN: Cause.CUT_WHILE_OPEN,
}
UNANSWERED = Failure(
    Cause.CERTIFICATE_REFUSED,
    f"it closed the connection {STAGES[TunnelState.UPGRADING]}; ngrok does that when it does not "
    "know our certificate, and `ngrokctl rotate-cert` gets a new one",
)
ANSWER_CUT = Failure(
    Cause.CLOSED_IN_UPGRADE,
    "it closed the connection in the middle of its answer to the request for the endpoint",
)
DROPPED_UNASKED = (
    "the ingress drops a connection before it is asked for anything; ngrok does that when it does "
    "not know our certificate: `ngrokctl rotate-cert` gets a new one"
)

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of openssl/x509_vfy.h
NAME_MISMATCH = frozenset({62, 64})
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of the same file
WRONG_TIME = frozenset({9, 10})
# The ingress was reached, and its certificate was refused.
DISTRUST = frozenset(
    {Cause.INGRESS_UNTRUSTED, Cause.INGRESS_NAME_MISMATCH, Cause.INGRESS_CERTIFICATE_DATE}
)
# No address of the ingress came as far as TLS.
UNREACHED = frozenset(
    {
        Cause.UNREACHABLE,
        Cause.CONNECT_REFUSED,
        Cause.CONNECT_TIMEOUT,
        Cause.HANDSHAKE_TIMEOUT,
        Cause.CLOSED_IN_HANDSHAKE,
        Cause.TLS_FAILED,
    }
)
# Alerts by which a server refuses a client's certificate (RFC 8446 6.2), as OpenSSL names them.
# A decrypt error is what a signature by an authority of the same name but another key gives.
CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR")

NOT_OURS = (
    "it refused our certificate: `server.client_cert` must be the one that ngrok issued to this "
    "operator and still be valid; `ngrokctl rotate-cert` gets a new one"
)


def reason(fault: BaseException, state: TunnelState, server_name: str) -> Failure:
    """Why an attempt at the ingress came to nothing, or an open connection to its end."""
    if isinstance(fault, UpgradeRefused):
        return Failure(Cause.REFUSED_BY_NGROK, f"ngrok refused: {printable(str(fault))}")
    if isinstance(fault, UpgradeCut):
        return ANSWER_CUT if fault.begun else UNANSWERED
    if isinstance(fault, ssl.SSLError):
        return _tls_reason(fault, state, server_name)
    if isinstance(fault, TimeoutError) and state in WAITS and fault.errno is None:
        return WAITS[state]
    if isinstance(fault, OSError):
        return _socket_reason(fault, state)
    if isinstance(fault, ProtocolError):
        cause = Cause.CUT_WHILE_OPEN if state is TunnelState.OPEN else Cause.PROTOCOL_BROKEN
        return Failure(cause, f"it broke the protocol: {printable(str(fault))}")
    return Failure(Cause.INTERNAL_ERROR, f"{type(fault).__name__}: {printable(str(fault))}")


def exhausted(fault: OSError) -> Failure:
    """What this machine has no more of."""
    if fault.errno in NO_DESCRIPTOR:
        return Failure(
            Cause.NO_DESCRIPTOR,
            "no file descriptor is left: raise the limit (`ulimit -n`, LimitNOFILE) or set "
            "`forward.max_connections`",
        )
    said = os.strerror(fault.errno).lower() if fault.errno else str(fault)
    return Failure(
        Cause.NO_MEMORY,
        f"the kernel has no memory for sockets ({said}): see `net.ipv4.tcp_mem` and the service's "
        "memory limit, or set `forward.max_connections`",
    )


def printable(text: str) -> str:
    """A peer's words, safe for a log line."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= TEXT_LIMIT else shown[:TEXT_LIMIT] + "..."


def _tls_reason(fault: ssl.SSLError, state: TunnelState, server_name: str) -> Failure:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return _certificate_reason(fault, server_name)
    name = getattr(fault, "reason", None) or ""  # set by OpenSSL's own faults only
    is_open = state is TunnelState.OPEN
    if "ALERT" in name and any(word in name for word in CERTIFICATE_ALERTS):
        cause = Cause.CUT_WHILE_OPEN if is_open else Cause.CERTIFICATE_REFUSED
        return Failure(cause, f"{NOT_OURS} (TLS alert {_alert(name)})")
    if isinstance(fault, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        doubt = ", without TLS's end: what came may be incomplete" if is_open else ""
        return Failure(CLOSED[state], f"it closed the connection {STAGES[state]}{doubt}")
    cause = Cause.CUT_WHILE_OPEN if is_open else Cause.TLS_FAILED
    if "ALERT" in name:
        # Before TLS 1.3 a missing client certificate is no more than a "handshake failure".
        doubt = "; it may not accept our certificate" if "HANDSHAKE_FAILURE" in name else ""
        return Failure(cause, f"it ended TLS {STAGES[state]} with the alert {_alert(name)}{doubt}")
    said = printable(name.lower().replace("_", " ") or str(fault))
    return Failure(cause, f"TLS failed {STAGES[state]}: {said}")


def _certificate_reason(fault: ssl.SSLCertVerificationError, server_name: str) -> Failure:
    issue = printable(fault.verify_message)
    if fault.verify_code in NAME_MISMATCH:
        return Failure(
            Cause.INGRESS_NAME_MISMATCH,
            f"its certificate is not for {server_name} ({issue}): `ingressEndpoint` must name the "
            "ingress as its certificate does",
        )
    if fault.verify_code in WRONG_TIME:
        return Failure(
            Cause.INGRESS_CERTIFICATE_DATE,
            f"its certificate is not trusted ({issue}): compare this machine's clock, see `date`; "
            "if that is right, the ingress needs a new certificate",
        )
    return Failure(
        Cause.INGRESS_UNTRUSTED,
        f"its certificate is not trusted ({issue}): `ngrokctl status` shows what the ingress "
        "presents, and what mends it",
    )


def _alert(name: str) -> str:
    return name.split("ALERT_")[-1].lower().replace("_", " ")


def _socket_reason(fault: OSError, state: TunnelState) -> Failure:
    if fault.errno == errno.ECONNREFUSED:
        return Failure(Cause.CONNECT_REFUSED, f"it refused the TCP connection: {REACH}")
    if fault.errno in ROUTINE_LOSS:
        cause = Cause.RESET_WHILE_OPEN if state is TunnelState.OPEN else CLOSED[state]
        # A close without reading our request is a reset, too; the kernel makes no difference.
        doubt = "; it may not know our certificate" if state is TunnelState.UPGRADING else ""
        return Failure(cause, f"it reset the connection {STAGES[state]}{doubt}")
    if fault.errno in NO_DESCRIPTOR | NO_MEMORY:
        return exhausted(fault)
    said = os.strerror(fault.errno) if fault.errno else str(fault)
    if fault.errno == errno.ETIMEDOUT and state in WAITS:
        cause = WAITS[state].cause
    elif state is TunnelState.CONNECTING:
        cause = Cause.UNREACHABLE
    else:
        cause = CLOSED[state]
    return Failure(cause, f"{said.lower()} {STAGES[state]}")
