"""Private keys and certificate signing requests.

The only module that uses `cryptography`, and only inside functions: the import costs 10 MB of
memory and is needed once at registration and once at each renewal, not at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


def new_key() -> bytes:
    """A P-256 private key as PEM: the cheapest handshake, and what ngrok's own operator uses."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def signing_request(key: bytes) -> str:
    """The PEM certificate signing request of this key. ValueError: not an elliptic curve key.

    The subject is empty: ngrok refuses a CommonName. Signed with SHA-512, as its operator does.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(_elliptic(key), hashes.SHA512())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def usable(key: bytes) -> bool:
    """This is a key that `signing_request` takes."""
    try:
        _elliptic(key)
    except ValueError:
        return False
    return True


def _elliptic(key: bytes) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        loaded = serialization.load_pem_private_key(key, password=None)
    except (TypeError, UnsupportedAlgorithm) as exc:  # TypeError: it is encrypted
        raise ValueError(str(exc)) from exc
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        # Whether ngrok signs other kinds is not known; a new key always works.
        raise ValueError("it is not an elliptic curve key")
    return loaded
