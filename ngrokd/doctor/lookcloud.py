"""Looks at ngrok's side: one request to the API, the files of the certificate, one handshake."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Optional

from ngrokd import __version__
from ngrokd.cloud import cafile, certificate, ngrokca, probe, recordfile, statefile, trust
from ngrokd.cloud.api import OPERATORS
from ngrokd.cloud.apierrors import (
    PASSING_STATUSES,
    Answer,
    Asked,
    document_of,
    key_fault,
    silence,
    utc,
)
from ngrokd.cloud.distrust import Verdict
from ngrokd.cloud.ingressaddress import IngressAddress, is_ingress_address, parse
from ngrokd.cloud.transport import NoAnswer, Transport
from ngrokd.config import DEFAULT_INGRESS, Config
from ngrokd.doctor.cloud import ApiFacts, CertificateFacts, IngressFacts, Reply, Welcome
from ngrokd.errors import ApiError, ApiRefused, HostError, StateError
from ngrokd.model import Address

API_S = 10.0
LOOK_S = 8.0  # for all addresses of the ingress together
NO_PAIR = "this machine has no certificate to show it"
WELCOME_S = 1.5  # a server that refuses us says so, or closes, within a round trip


def at_api(config: Config) -> ApiFacts:
    """Asks with the key that the daemon would take: the saved one, else the configured one."""
    url = config.api.url
    try:
        saved = statefile.read(config.state_folder / "api_key")
    except StateError as exc:
        is_closed = isinstance(exc.__cause__, PermissionError)
        return ApiFacts(url, why=str(exc), is_unreadable=is_closed, mend="as it says")
    key = (saved or b"").decode("utf-8", "replace").strip() or config.api.key
    fault = key_fault(key)
    if fault:
        return ApiFacts(url, why=fault, is_unreadable=not key and not _may_see(config.state_folder))
    path = f"{OPERATORS}?limit=1"
    asked = Asked(f"GET {path}", url, key)
    headers = {
        "Authorization": f"Bearer {key}",
        "Ngrok-Version": "2",
        "User-Agent": f"ngrokd/{__version__}",
        "Accept": "application/json",
    }
    try:
        answer = Transport(url, API_S).send("GET", url.rstrip("/") + path, headers, None)
    except NoAnswer as exc:
        return ApiFacts(url, Reply.NONE, _once(silence(asked, str(exc))))
    skew_s = _skew(answer, time.time())
    try:
        document_of(answer, asked, time.time())
    except ApiRefused as exc:
        return ApiFacts(url, Reply.REFUSED, str(exc), skew_s)
    except ApiError as exc:
        is_its_own = answer.status in PASSING_STATUSES or answer.status >= 500 or exc.code
        return ApiFacts(url, Reply.UNWELL if is_its_own else Reply.FOREIGN, _once(exc), skew_s)
    return ApiFacts(url, Reply.TAKEN, "", skew_s)


def at_certificate(config: Config) -> CertificateFacts:
    """The pair of the state folder."""
    cert, key = Path(config.server.client_cert), Path(config.server.client_key)
    path = str(cert)
    if not _may_see(config.state_folder):
        return CertificateFacts(path, is_readable=False)
    try:
        content = statefile.read(cert)
        if content is None:
            return CertificateFacts(path, is_there=False)
        found = certificate.validity(content.decode("ascii", "replace"))
        if os.path.exists(key) and not os.access(key, os.R_OK):  # noqa: PTH110
            return CertificateFacts(path, is_readable=False)
        _context(config)
    except (StateError, ValueError) as exc:
        told = str(exc) if isinstance(exc, StateError) else f"{path}: {exc}"
        return CertificateFacts(path, fault=told)
    return CertificateFacts(path, validity=found)


def at_ingress(config: Config, named: str, has_pair: bool) -> IngressFacts:
    """`named`: as the daemon tells, else as it last kept it. Without a pair only it is judged."""
    address = _ingress_of(config, named)
    try:
        addresses = trust.resolve_ingress(address)
    except HostError as exc:
        return IngressFacts(address, why=str(exc), is_unresolved=True)
    try:
        knows = cafile.holds(config.state_folder, ngrokca.SHA256)
        make_context = functools.partial(_context if has_pair else _anchored, config)
        look = probe.look(make_context, address.host, addresses, LOOK_S)
    except StateError as exc:
        return IngressFacts(address, why=str(exc))
    if not has_pair and look.verdict is Verdict.UNREACHABLE and "alert" in look.why:
        # With TLS 1.2 it says within the handshake that it wants one.
        return IngressFacts(address, why=f"{NO_PAIR}: {look.why}")
    facts = IngressFacts(address, look, knows_ngroks=knows, said="" if has_pair else NO_PAIR)
    if look.verdict is not Verdict.TRUSTED or not has_pair:
        return facts
    welcome, said = _welcome(_context(config), address, addresses)
    return IngressFacts(address, look, knows_ngroks=knows, welcome=welcome, said=said)


def late_api(config: Config, seconds: float) -> ApiFacts:
    """Where `at_api` has not come to an end."""
    why = f"{config.api.url} gave no answer within {seconds:g} s"
    return ApiFacts(config.api.url, Reply.NONE, f"{why}; most often the DNS is what does not")


def late_ingress(config: Config, named: str, seconds: float) -> IngressFacts:
    """Where `at_ingress` has not."""
    address = _ingress_of(config, named)
    why = f"the ingress {address} was neither resolved nor reached within {seconds:g} s"
    return IngressFacts(address, why=why, is_unresolved=True)


def _ingress_of(config: Config, named: str) -> IngressAddress:
    told = named or recordfile.ingress_named(config.state_folder)
    known = told if is_ingress_address(told) else ""
    return parse(config.ingress_endpoint or known or DEFAULT_INGRESS)


def _anchored(config: Config) -> ssl.SSLContext:
    return trust.anchored(config.server.ca_file, config.state_folder)


def _context(config: Config) -> ssl.SSLContext:
    server = config.server
    return trust.ingress_context(
        Path(server.client_cert), Path(server.client_key), server.ca_file, config.state_folder
    )


def _welcome(
    context: ssl.SSLContext, address: IngressAddress, addresses: tuple[Address, ...]
) -> tuple[Welcome, str]:
    """TLS 1.3 tells of a certificate that is refused at the first read, and not before."""
    for each in addresses:
        with contextlib.suppress(OSError):
            return _waits(context, address.host, each)
    return Welcome.UNKNOWN, "none of its addresses answered a second time"


def _waits(context: ssl.SSLContext, name: str, at: Address) -> tuple[Welcome, str]:
    plain = socket.create_connection((at.ip, at.port), WELCOME_S)
    with contextlib.closing(plain), context.wrap_socket(plain, server_hostname=name) as link:
        link.settimeout(WELCOME_S)
        try:
            said = link.recv(1)
        except (socket.timeout, ssl.SSLWantReadError):
            return Welcome.ACCEPTED, ""
        except ssl.SSLError as exc:
            return Welcome.REFUSED, (exc.reason or str(exc)).replace("_", " ").lower()
        except ConnectionError as exc:
            return Welcome.REFUSED, exc.strerror or str(exc)
    if said:
        return Welcome.UNKNOWN, "it speaks first, as ngrok's ingress does not"
    return Welcome.REFUSED, "it closes the connection"


def _once(exc: ApiError) -> str:
    """Without what the daemon would do next: this is one look, and perhaps no daemon runs."""
    return str(exc).replace("; it is tried again", "")


def _skew(answer: Answer, now: float) -> Optional[float]:
    try:
        return now - utc(email.utils.parsedate_to_datetime(answer.date)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):  # 3.9 raises all kinds
        return None


def _may_see(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK) or not os.path.lexists(folder)
