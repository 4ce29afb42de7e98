"""Private keys and certificate signing requests, made with `cryptography`.

The only module that uses it, and only inside functions: it takes 11 MB of memory for as long as a
process lives. So the daemon does not call these functions but runs this file as a program of its
own (see `keymaker`): one question as JSON on standard input, one answer on standard output, where
no list of processes and no file shows a private key. Nothing of ngrokd may be imported here.
"""

from __future__ import annotations

import json
import sys
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


def answer(key: str) -> dict[str, str]:
    """`key` ("": a new one) and its `request`; or the `fault` of a key that has none."""
    content = key.encode() or new_key()
    try:
        return {"key": content.decode(), "request": signing_request(content)}
    except ValueError as exc:
        return {"fault": str(exc)}


def main() -> None:
    """What the program does: `path` is where its parent finds modules, `key` is `answer`'s."""
    question = json.load(sys.stdin)
    sys.path[:] = question["path"]
    try:
        print(json.dumps(answer(question["key"])))  # noqa: T201 - the answer
    except ImportError as exc:
        sys.exit(str(exc))


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


if __name__ == "__main__":
    main()
