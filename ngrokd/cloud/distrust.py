"""What a look at the ingress found, and the words for it. Pure."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Optional

from ngrokd.cloud.facts import Facts
from ngrokd.cloud.ingressaddress import IngressAddress
from ngrokd.cloud.ngrokca import day

# X509_V_ERR_* of openssl/x509_vfy.h: not yet valid, expired; hostname mismatch, address mismatch.
_WRONG_DATE = frozenset({9, 10})
_WRONG_NAME = frozenset({62, 64})

_WAY = "see `ingressEndpoint`, and whether a firewall stands between"
_OUR_CERTIFICATE = "it refuses our certificate, and `ngrokctl rotate-cert` gets a new one"
_NGROKS_AUTHORITY = (
    "`ngrokctl trust` installs ngrok's certificate authority, and one of your own is named in"
    " `server.ca_file`"
)
# With TLS 1.2 a server says within the handshake that it refuses the client's certificate.
_REFUSES_US = re.compile("alert .*(certificate|unknown ca|access denied|decrypt error)")


class Verdict(enum.Enum):
    """What a verifying handshake came to."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"  # its certificate is of an authority that we do not know
    WRONG_NAME = "wrong_name"  # of a known one, and for another name
    WRONG_DATE = "wrong_date"  # expired or not yet valid, or our clock is wrong
    UNREACHABLE = "unreachable"  # no connection, or no TLS
    UNKNOWN = "unknown"  # this machine could not look


@dataclass(frozen=True)
class Finding:
    """One look. `why`: the words of OpenSSL or of the system."""

    verdict: Verdict
    why: str = ""
    presented: Optional[Facts] = None  # None: trusted or not reached, or nothing tells it

    @property
    def distrusts(self) -> bool:
        """The ingress was reached, and is not to be connected to."""
        return self.verdict not in (Verdict.TRUSTED, Verdict.UNREACHABLE, Verdict.UNKNOWN)


def verdict_of(code: int) -> Verdict:
    """Of OpenSSL's code for why a certificate was refused."""
    if code in _WRONG_DATE:
        return Verdict.WRONG_DATE
    return Verdict.WRONG_NAME if code in _WRONG_NAME else Verdict.UNTRUSTED


def words(finding: Finding, ingress: IngressAddress, knows_ngroks: bool = False) -> str:
    """What is wrong with the ingress, and what mends it; "" if nothing is known to be.

    `knows_ngroks`: ngrok's CA is installed already.
    """
    if finding.verdict is Verdict.UNREACHABLE:
        mend = _OUR_CERTIFICATE if _REFUSES_US.search(finding.why) else _WAY
        return f"the ingress {ingress} cannot be reached ({finding.why}): {mend}"
    if not finding.distrusts:
        return ""
    shown = _shown(finding.presented, ingress)
    if finding.verdict is Verdict.WRONG_NAME:
        return (
            f"the certificate of the ingress {ingress} is not for that name ({finding.why}):"
            f" {shown}; `ingressEndpoint` must name the ingress as its certificate does"
        )
    if finding.verdict is Verdict.WRONG_DATE:
        return (
            f"the certificate of the ingress {ingress} is not valid now ({finding.why}): {shown};"
            " compare this machine's clock, see `date`; if that is right, the ingress needs a new"
            " certificate"
        )
    mend = _other_authority(finding.presented) if knows_ngroks else _NGROKS_AUTHORITY
    return f"the ingress {ingress} is not trusted ({finding.why}): {shown}; {mend}"


def _other_authority(presented: Optional[Facts]) -> str:
    issuer = presented.issuer if presented else "whoever issued this one"
    return (
        f"ngrok's certificate authority is installed and does not help: {issuer} is somebody in"
        " between, such as a proxy that inspects TLS, or the authority of this ingress has to be"
        " named in `server.ca_file`"
    )


def _shown(facts: Optional[Facts], ingress: IngressAddress) -> str:
    if facts is None:
        is_address = ":" in ingress.host or ingress.host.rpartition(".")[2].isdigit()
        name = "" if is_address else f" -servername {ingress.host}"
        command = f"openssl s_client -connect {ingress}{name} -showcerts"
        return f"`{command}` shows the certificate that it presents"
    names = f", for {', '.join(facts.names)}" if facts.names else ""
    return (
        f"it presents the certificate of {facts.subject}{names}, issued by {facts.issuer},"
        f" valid from {day(facts.not_before)} to {day(facts.not_after)}, SHA-256 {facts.sha256}"
    )
