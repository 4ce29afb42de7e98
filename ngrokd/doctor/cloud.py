"""Judges ngrok's side: the API and our key, the clocks, our certificate, the ingress. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional

from ngrokd.cloud import distrust, expiry
from ngrokd.cloud.certificate import MAX_SKEW_S, Validity, day
from ngrokd.cloud.distrust import Finding as Look
from ngrokd.cloud.distrust import Verdict
from ngrokd.cloud.ingressaddress import IngressAddress
from ngrokd.doctor.daemon import NEEDS_ROOT
from ngrokd.doctor.finding import Finding, failed, ok, skipped, warning

SET_KEY = "ngrokctl set-api-key"
ROTATE = "ngrokctl rotate-cert"
MAX_CLOCK_S = 30.0  # more than any answer takes
API_WAY = "see DNS, proxy variables and firewall of this machine, and api.url"


class Reply(enum.Enum):
    """What came of one request to the API."""

    TAKEN = "taken"  # it knows the key
    REFUSED = "refused"  # it does not, or not for this
    UNWELL = "unwell"  # it says that it cannot answer now
    FOREIGN = "foreign"  # an answer that is not the API's
    NONE = "none"


@dataclass(frozen=True)
class ApiFacts:
    """One request. `reply` None: it was not sent, and `why`."""

    url: str
    reply: Optional[Reply] = None
    why: str = ""
    skew_s: Optional[float] = None  # our clock is ahead of the API's by this; None: not told
    is_unreadable: bool = False  # the key may only be read by root
    mend: str = SET_KEY  # of what kept it from being sent


@dataclass(frozen=True)
class CertificateFacts:
    """Of the state folder. `fault`: it cannot be used, with the mend."""

    path: str
    is_there: bool = True
    is_readable: bool = True
    validity: Optional[Validity] = None
    fault: str = ""


class Welcome(enum.Enum):
    """What the ingress did once it had seen our certificate."""

    ACCEPTED = "accepted"  # it waits for a request
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class IngressFacts:
    """`look` None: it has no address, or nothing could be tried, and `why`."""

    address: IngressAddress
    look: Optional[Look] = None
    why: str = ""
    is_unresolved: bool = False
    knows_ngroks: bool = False  # ngrok's CA is installed
    welcome: Welcome = Welcome.UNKNOWN
    said: str = ""  # the words of a refusal


def of_api(facts: ApiFacts) -> list[Finding]:
    """Reachable, and takes our key."""
    if facts.reply is None:
        if facts.is_unreadable:
            return [skipped("API", facts.why, NEEDS_ROOT)]
        return [failed("API key", facts.why, facts.mend)]
    if facts.reply in (Reply.NONE, Reply.FOREIGN):
        return [failed("API", facts.why, API_WAY)]
    if facts.reply is Reply.UNWELL:
        return [warning("API", facts.why, "https://status.ngrok.com tells whether ngrok is well")]
    reached = ok("API", f"{facts.url} answers")
    if facts.reply is Reply.REFUSED:
        return [reached, failed("API key", facts.why, SET_KEY)]
    return [reached, ok("API key", "ngrok takes it")]


def of_clock(facts: ApiFacts) -> Finding:
    """Certificates are judged by our clock; ngrok's is right."""
    if facts.skew_s is None:
        return skipped("clock", "the API did not tell the time")
    apart = abs(facts.skew_s)
    if apart <= MAX_CLOCK_S:
        return ok("clock", "agrees with the API's")
    how = "ahead of" if facts.skew_s > 0 else "behind"
    what = f"this machine's clock is {apart:.0f} s {how} the API's"
    mend = "set it: timedatectl set-ntp true, or chronyd or ntpd"
    return (failed if apart > MAX_SKEW_S else warning)("clock", what, mend)


def of_certificate(facts: CertificateFacts, now: float) -> Finding:
    """Our own, for the ingress. `now`: Unix seconds."""
    if not facts.is_readable:
        return skipped("certificate", f"{facts.path} may not be read by this user", NEEDS_ROOT)
    if not facts.is_there:
        what = f"there is no {facts.path}: this machine is not registered with ngrok"
        return failed("certificate", what, f"{SET_KEY}, and a daemon that runs")
    if facts.fault:
        return failed("certificate", facts.fault, ROTATE)
    assert facts.validity is not None
    if now < facts.validity.not_before:
        what = f"it is valid from {day(facts.validity.not_before)} on, by this machine's clock"
        return failed("certificate", what, "set the clock, see `date`")
    left = f"it {expiry.left_in_words(facts.validity, now)}"
    if facts.validity.not_after <= now:
        return failed("certificate", left, ROTATE)
    if expiry.threshold(facts.validity, now) is not None:
        return warning("certificate", left, ROTATE)
    return ok("certificate", f"{left}, and its key belongs to it")


def of_ingress(facts: IngressFacts) -> list[Finding]:
    """Resolves, connects, is trusted, and takes our certificate."""
    if facts.is_unresolved:
        return [failed("ingress", facts.why, "see DNS of this machine, and ingressEndpoint")]
    if facts.look is None:
        return [skipped("ingress", facts.why)]
    wrong = distrust.words(facts.look, facts.address, facts.knows_ngroks)
    if wrong:
        untrusted = facts.look.verdict is Verdict.UNTRUSTED and not facts.knows_ngroks
        return [failed("ingress", wrong, "ngrokctl trust" if untrusted else "as it says")]
    if facts.look.verdict is Verdict.UNKNOWN:
        return [skipped("ingress", facts.look.why)]
    reached = ok("ingress", f"{facts.address} is reached and trusted")
    return [reached, _welcome(facts)]


def _welcome(facts: IngressFacts) -> Finding:
    if facts.welcome is Welcome.REFUSED:
        what = f"the ingress refuses this machine's certificate: {facts.said}"
        return failed("ingress access", what, ROTATE)
    if facts.welcome is Welcome.UNKNOWN:
        return skipped("ingress access", facts.said or "it could not be tried")
    return ok("ingress access", "the ingress takes this machine's certificate")
