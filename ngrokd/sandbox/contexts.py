"""The ingress's TLS contexts: one for each identity it may show and TLS version it may speak."""

from __future__ import annotations

import ssl

from ngrokd.sandbox.ca import SERVER_IDENTITIES, Authority

# Python 3.9 and 3.10 set it with OpenSSL 3: a client that vanishes would look like one that has
# ended. The ssl module has a name for it from Python 3.10 on.
IGNORE_UNEXPECTED_EOF = ssl.Options(0x80)

VERSIONS = {
    "": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED),
    "1.2": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
    "1.3": (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED),
}


class ServerContexts:
    """Made once, then only read: any thread."""

    def __init__(self, authority: Authority) -> None:
        self._contexts = {
            (identity, version): _context(authority, identity, version)
            for identity in SERVER_IDENTITIES
            for version in VERSIONS
        }

    def get(self, identity: str, version: str) -> ssl.SSLContext:
        """For an identity of `SERVER_IDENTITIES` and "", "1.2" or "1.3"."""
        return self._contexts[identity, version]


def _context(authority: Authority, identity: str, version: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = VERSIONS[version]
    context.verify_mode = ssl.CERT_REQUIRED  # mTLS: a client without our certificate ends here
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~IGNORE_UNEXPECTED_EOF
    for anchor in (authority.root_file, authority.ca_file):
        context.load_verify_locations(anchor)
    context.load_cert_chain(*authority.server_files(identity))
    return context
