"""Whom we trust at the ingress, who we say we are there, and its addresses.

Theory of operation. Verification is always on, whatever files exist: what is missing can only
make fewer servers trusted. Every certificate of the anchor files is an anchor of its own, also an
intermediate one (ngrok publishes exactly such a file): OpenSSL does that only with PARTIAL_CHAIN,
which Python sets by itself from 3.13 on only. VERIFY_X509_STRICT, which 3.13's
`create_default_context` sets too, is left out: older certificates fail it.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from ngrokd.cloud.anchors import anchor_folder
from ngrokd.cloud.ingressaddress import IngressAddress
from ngrokd.errors import HostError, StateError
from ngrokd.model import Address

logger = logging.getLogger(__name__)

NGROK_ANCHORS = Path("/etc/ssl/certs/ngrok")  # where ngrok's own operator looks
INSTALLED = "ca.crt"  # of the state folder: what `ngrokctl trust` writes
MAX_ANCHOR_BYTES = 4 << 20  # the whole of a system's bundle is a quarter of this

# X509_V_FLAG_PARTIAL_CHAIN; the ssl module has a name for it from Python 3.10 on.
_PARTIAL_CHAIN = 0x80000

_NO_PEM = "pem lib"  # ERR_R_PEM_LIB, for which some Pythons have no name but OpenSSL's text

Fingerprint = tuple[tuple[str, int, int, int], ...]


def ingress_context(
    cert: Path, key: Path, ca_file: str, state_folder: Path, vendor: Path = NGROK_ANCHORS
) -> ssl.SSLContext:
    """The TLS context of every ingress connection; verifies chain and name.

    StateError: a file that was named cannot be used.
    """
    context = anchored(ca_file, state_folder, vendor)
    _load_pair(context, cert, key)
    return context


def anchored(
    ca_file: str, state_folder: Path, vendor: Path = NGROK_ANCHORS
) -> ssl.SSLContext:
    """The same without our certificate. Files below `vendor` that hold no PEM certificate are
    passed over. Raises StateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
    folder = anchor_folder(ssl.get_default_verify_paths(), os.environ)
    if folder:
        context.load_verify_locations(capath=folder)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if ca_file:
        _load_named(context, Path(ca_file), "name a PEM file in server.ca_file")
    installed = state_folder / INSTALLED
    if os.path.exists(installed):  # noqa: PTH110 - `Path.exists` raises where it may not look
        _load_named(context, installed, "put a PEM certificate there, or remove it")
    for path in _files_below(vendor):
        _load_found(context, path)
    return context


def fingerprint(
    cert: Path, key: Path, ca_file: str, state_folder: Path, vendor: Path = NGROK_ANCHORS
) -> Fingerprint:
    """Changes when a file that `ingress_context` reads does: then the context is to be rebuilt."""
    paths = [cert, key, state_folder / INSTALLED, *_files_below(vendor)]
    if ca_file:
        paths.append(Path(ca_file))
    system = ssl.get_default_verify_paths()
    # The folder is looked into at each handshake, but what was found once is kept.
    paths += [Path(name) for name in (system.cafile, system.capath) if name]
    return tuple(_mark(path) for path in paths)


def resolve_ingress(ingress: IngressAddress) -> tuple[Address, ...]:
    """Every address it has, in the resolver's order. For a pool thread: it may block.

    HostError: it has none.
    """
    host, port = ingress.host, ingress.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:  # UnicodeError: a label that is empty or too long
        cause = (exc.strerror if isinstance(exc, OSError) else None) or exc
        raise HostError(
            f"the ingress {host} cannot be resolved: {cause}; see this machine's DNS and"
            " ingressEndpoint in config.yml"
        ) from exc
    addresses = (Address(str(sockaddr[0]), port) for *_, sockaddr in found)
    return tuple(dict.fromkeys(addresses))


def _load_named(context: ssl.SSLContext, path: Path, mend: str) -> None:
    if _is_odd(path):
        raise StateError(
            f"{path} cannot be used as a trust anchor: it is not a regular file; {mend}"
        )
    try:
        context.load_verify_locations(cafile=path)
    except OSError as exc:  # SSLError too
        raise StateError(f"{path} cannot be used as a trust anchor: {_cause(exc)}; {mend}") from exc


def _load_found(context: ssl.SSLContext, path: Path) -> None:
    try:
        if _is_odd(path) or path.stat().st_size > MAX_ANCHOR_BYTES:
            logger.debug("%s is no trust anchor: it is not a regular file, or too large", path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as exc:
        logger.debug("%s is no trust anchor: %s", path, _cause(exc))


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    for path in (cert, key):
        if _is_odd(path):
            raise StateError(
                f"{path} cannot be used for the client certificate: it is not a regular file;"
                " move it away, and `ngrokctl rotate-cert` asks for a new pair"
            )
    try:
        # The password keeps OpenSSL from asking the terminal for that of an encrypted key.
        context.load_cert_chain(cert, key, lambda: "")
    except OSError as exc:
        raise StateError(
            f"{cert} and {key} cannot be used as the client certificate:"
            f" {_of_pair(exc, cert, key)}; `ngrokctl rotate-cert` asks for a new pair"
        ) from exc


def _is_odd(path: Path) -> bool:
    """A FIFO would hang OpenSSL, which opens what it is told to; a device may have no end."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # what is missing or out of reach OpenSSL says itself
        return False


def _cause(exc: OSError, what: str = "it", or_so: str = " or cut short") -> str:
    """`what` is empty, damaged `or_so` where OpenSSL says no more than that it read no PEM."""
    if not isinstance(exc, ssl.SSLError):
        return exc.strerror or str(exc)
    said = (exc.reason or str(exc)).replace("_", " ").lower()
    return f"{what} is empty, damaged{or_so}" if _NO_PEM in said else said


def _of_pair(exc: OSError, cert: Path, key: Path) -> str:
    """OpenSSL does not say in which of the two files it was."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cert)
    except OSError:
        return _cause(exc, str(cert))
    return _cause(exc, str(key), ", cut short or locked with a password")


def _files_below(folder: Path) -> Iterator[Path]:
    """Whatever lies there, in an order that does not change."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(base, name)


def _mark(path: Path) -> tuple[str, int, int, int]:
    try:
        known = path.stat()
    except OSError:  # missing is a state like any other
        return str(path), -1, -1, -1
    return str(path), known.st_ino, known.st_size, known.st_mtime_ns
