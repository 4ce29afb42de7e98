"""The sandbox's certificate authority: its own identities, and certificates for operators' CSRs.

What makes certificates is imported where it is used: `cryptography` costs 10 MB that a daemon
without a sandbox spares.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ngrokd.errors import NgrokdError, StateError
from ngrokd.sandbox.store import make_folder, read_file, write_file

if TYPE_CHECKING:
    from cryptography.x509 import CertificateSigningRequest

    from ngrokd.sandbox.certificates import Signer

HONEST, SELF_SIGNED, WRONG_NAME, EXPIRED = "ingress", "self_signed", "wrong_name", "expired"
SERVER_IDENTITIES = (HONEST, SELF_SIGNED, WRONG_NAME, EXPIRED)  # all but the first are for faults
OTHER_KEY, NOT_YET_VALID, CUT, GARBLED = "other_key", "not_yet_valid", "cut", "garbled"
FALSIFICATIONS = (OTHER_KEY, NOT_YET_VALID, EXPIRED, CUT, GARBLED)  # of a client's certificate
DAY_S = 86400.0
SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
IDENTITY_LIFETIME = dt.timedelta(days=3650)
MIN_RSA_BITS = 2048


class CsrRefused(NgrokdError):
    """The certificate signing request cannot be signed. Handler: answer ERR_NGROK_19001."""


@dataclass(frozen=True)
class Issued:
    """A client certificate; times are Unix seconds."""

    pem: str
    not_before: float
    not_after: float


class Authority:
    """Root, intermediate and the ingress's server certificates, kept in a folder. Any thread: it
    never changes once made.

    `ca_file` holds the intermediate alone, as ngrok publishes its own: a client has to accept an
    anchor that is not self-signed (`ssl.VERIFY_X509_PARTIAL_CHAIN`).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca_file = folder / "intermediate.crt"
        self.root_file = folder / "root.crt"
        if not folder.exists():
            _make_identities(folder)
        self._signer = _load_signer(folder, self.ca_file, folder / "intermediate.key")

    def server_files(self, identity: str) -> tuple[Path, Path]:
        """Certificate chain and key of one of `SERVER_IDENTITIES`."""
        return self._folder / f"{identity}.crt", self._folder / f"{identity}.key"

    def sign(self, csr_pem: str, operator_id: str, now: float, lifetime_s: float) -> Issued:
        """A client certificate whose CommonName is the operator's id. `CsrRefused` otherwise."""
        from ngrokd.sandbox import certificates

        lifetime = dt.timedelta(seconds=lifetime_s)
        wanted = certificates.Wanted(
            common_name=operator_id,
            public_key=_checked(csr_pem).public_key(),
            not_before=_utc(now) - min(certificates.BACKDATE, lifetime / 10),
            not_after=_utc(now + lifetime_s),
            client=True,
        )
        made = certificates.make(wanted, self._signer)
        # The certificate itself has whole seconds only.
        not_before, not_after = int(wanted.not_before.timestamp()), int(now + lifetime_s)
        return Issued(certificates.pem(made).decode(), not_before, not_after)

    def falsified(self, issued: Issued, how: str, now: float) -> Issued:
        """A certificate like that one, but wrong in one of the `FALSIFICATIONS`."""
        from cryptography import x509

        from ngrokd.sandbox import certificates

        if how == CUT:
            return replace(issued, pem=issued.pem[: len(issued.pem) // 2])
        if how == GARBLED:
            begin, *middle, end = issued.pem.splitlines(keepends=True)
            return replace(issued, pem="".join((begin, *map(str.swapcase, middle), end)))
        true = x509.load_pem_x509_certificate(issued.pem.encode())
        [name] = true.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
        other = how == OTHER_KEY
        begins, ends = _false_dates(issued, how, int(now))
        wanted = certificates.Wanted(
            common_name=str(name.value),
            public_key=certificates.new_key().public_key() if other else true.public_key(),
            not_before=_utc(begins),
            not_after=_utc(ends),
            client=True,
        )
        made = certificates.make(wanted, self._signer)
        return Issued(certificates.pem(made).decode(), begins, ends)


def _false_dates(issued: Issued, how: str, now: float) -> tuple[float, float]:
    if how == NOT_YET_VALID:
        return now + DAY_S, max(now + 2 * DAY_S, issued.not_after)
    if how == EXPIRED:
        return now - 2 * DAY_S, now - DAY_S
    return issued.not_before, issued.not_after


def _checked(csr_pem: str) -> CertificateSigningRequest:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        signed = csr.is_signature_valid
        key = csr.public_key()
        names = csr.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise CsrRefused("it is not a PEM certificate signing request") from exc
    if not signed:
        raise CsrRefused("its signature is not that of its own key")
    if any(name.value for name in names):
        raise CsrRefused("its CommonName must be empty")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise CsrRefused(f"its RSA key has {key.key_size} bits, {MIN_RSA_BITS} are the least")
    if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, rsa.RSAPublicKey)):
        raise CsrRefused("its key is neither EC, Ed25519 nor RSA")
    return csr


def _load_signer(folder: Path, certificate_file: Path, key_file: Path) -> Signer:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from ngrokd.sandbox.certificates import Signer

    certificate, key = read_file(certificate_file), read_file(key_file)
    damaged = f"the sandbox's CA in {folder} is damaged; remove that folder to have a new one made"
    try:
        loaded = load_pem_private_key(key, password=None)
        signer = x509.load_pem_x509_certificate(certificate)
    except (ValueError, TypeError) as exc:
        raise StateError(damaged) from exc
    if (
        not isinstance(loaded, ec.EllipticCurvePrivateKey)
        or loaded.public_key() != signer.public_key()
    ):
        raise StateError(damaged)
    return Signer(signer, loaded)


def _make_identities(folder: Path) -> None:
    """All files at once: a crash on the way leaves no half of an authority behind."""
    make_folder(folder.parent)
    half_done = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        now = dt.datetime.now(dt.timezone.utc)
        for name, content in _identities(now).items():
            write_file(half_done / name, content, 0o600 if name.endswith(".key") else 0o644)
        half_done.rename(folder)
    except OSError as exc:
        raise StateError(f"{folder} cannot be written: {exc.strerror}") from exc
    finally:
        shutil.rmtree(half_done, ignore_errors=True)  # is gone if it was renamed


def _identities(now: dt.datetime) -> dict[str, bytes]:
    """Every file of the authority's folder: name -> content."""
    from ngrokd.sandbox import certificates as x

    root_key, intermediate_key = x.new_key(), x.new_key()
    start, end = now - x.BACKDATE, now + IDENTITY_LIFETIME
    root = x.make(
        x.Wanted("Root CA", root_key.public_key(), start, end, path_length=1),
        x.Signer(None, root_key),
    )
    intermediate = x.make(
        x.Wanted("Intermediate CA", intermediate_key.public_key(), start, end),
        x.Signer(root, root_key),
    )
    files = {
        "root.crt": x.pem(root),
        "root.key": x.key_pem(root_key),
        "intermediate.crt": x.pem(intermediate),
        "intermediate.key": x.key_pem(intermediate_key),
    }
    day = dt.timedelta(days=1)
    for identity in SERVER_IDENTITIES:
        key = x.new_key()
        names = ("wrong.example",) if identity == WRONG_NAME else SERVER_NAMES
        dates = (now - 2 * day, now - day) if identity == EXPIRED else (start, end)
        signer = x.Signer(intermediate, intermediate_key)
        chain = x.pem(intermediate)
        if identity == SELF_SIGNED:
            signer, chain = x.Signer(None, key), b""
        made = x.make(x.Wanted(names[0], key.public_key(), *dates, names=names), signer)
        files[f"{identity}.crt"] = x.pem(made) + chain
        files[f"{identity}.key"] = x.key_pem(key)
    return files


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), dt.timezone.utc)
