"""Certificates for tests: an authority of our own, a server's and a client's, in a folder."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVER_NAME = "ingress.test"
# Set by Python 3.9 with OpenSSL 3, it makes a client that vanishes look like one that has ended.
IGNORE_UNEXPECTED_EOF = ssl.Options(0x80)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority in `folder`. Owner: the test."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.cert = folder / f"{name.replace(' ', '-').lower()}.crt"
        builder = _builder(name, name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.cert.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def issue(self, name: str, valid_days: int = 1, from_days: int = -30) -> Pair:
        """A certificate for `name` (a host name or IP address), valid between these from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, self._name, key.public_key(), valid_days, from_days).add_extension(
            x509.SubjectAlternativeName([_alternative(name)]), critical=False
        )
        pair = Pair(self._folder / f"{name}.{valid_days}.crt", self._folder / f"{name}.key")
        pair.cert.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


@dataclass(frozen=True)
class Contexts:
    """Both ends of an mTLS connection that trust each other."""

    client: ssl.SSLContext
    server: ssl.SSLContext


def contexts(folder: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Contexts:
    """An authority, a server named SERVER_NAME and a client, under exactly `version` of TLS."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder)
    return Contexts(
        client_context(authority.cert, authority.issue("client"), version),
        server_context(authority.issue(SERVER_NAME), authority.cert, version),
    )


def server_context(
    pair: Pair, client_ca: Path, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """A server that asks for a client certificate signed by `client_ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.options &= ~IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    ca: Path, pair: Optional[Pair], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """A client that trusts `ca` and shows `pair`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(ca)
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def _builder(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePublicKey,
    valid_days: int = 1,
    from_days: int = -30,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=from_days))
        .not_valid_after(now + datetime.timedelta(days=valid_days))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
