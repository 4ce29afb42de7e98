"""X.509 certificates as the sandbox needs them. Pure, but for fresh keys and serial numbers."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATE = dt.timedelta(minutes=5)  # clocks of containers and their hosts differ
ORGANIZATION = "ngrokd sandbox"


@dataclass(frozen=True)
class Wanted:
    """What a certificate is to say. No `names` and not `client`: a CA of that path length."""

    common_name: str
    public_key: CertificatePublicKeyTypes
    not_before: dt.datetime
    not_after: dt.datetime
    names: tuple[str, ...] = ()
    client: bool = False
    path_length: int = 0

    @property
    def authority(self) -> bool:
        """It may sign other certificates."""
        return not self.names and not self.client


@dataclass(frozen=True)
class Signer:
    """Who signs; `certificate` None: the certificate signs itself."""

    certificate: Optional[x509.Certificate]
    key: ec.EllipticCurvePrivateKey


def make(wanted: Wanted, signer: Signer) -> x509.Certificate:
    """Complete enough for OpenSSL's strict checks (Python 3.13 turns them on by default)."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer.certificate else subject)
        .public_key(wanted.public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(wanted.not_before)
        .not_valid_after(wanted.not_after)
        .add_extension(_constraints(wanted), critical=True)
        .add_extension(_key_usage(wanted), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(wanted.public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()),
            critical=False,
        )
    )
    if not wanted.authority:
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if wanted.client else _SERVER
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if wanted.names:
        names = x509.SubjectAlternativeName([_general_name(name) for name in wanted.names])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer.key, hashes.SHA256())


_SERVER = ExtendedKeyUsageOID.SERVER_AUTH


def new_key() -> ec.EllipticCurvePrivateKey:
    """P-256: the cheapest handshake that everyone accepts."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> bytes:
    """As PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _constraints(wanted: Wanted) -> x509.BasicConstraints:
    path_length = wanted.path_length if wanted.authority else None
    return x509.BasicConstraints(ca=wanted.authority, path_length=path_length)


def _key_usage(wanted: Wanted) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=wanted.authority,
        crl_sign=wanted.authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:  # a name, not an address
        return x509.DNSName(name)
