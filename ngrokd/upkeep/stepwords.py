"""What the log says of the steps of a registration."""

from __future__ import annotations

import logging

from ngrokd.cloud.certificate import day
from ngrokd.cloud.registration import Answer, Step

CLOCK = "the new certificate is due for renewal already: compare this machine's clock"
UNUSABLE = "what ngrok granted is missing on this machine's disk, or cannot be used"

NAMES = {
    Step.REGISTER: "registration",
    Step.RENEW: "renewal of the certificate",
    Step.UPDATE: "telling ngrok of a change",
    Step.LOOK: "look at the operator",
}
BEGINS = {
    Step.REGISTER: "registering with the ngrok API at %s",
    Step.RENEW: "asking the ngrok API at %s for a new certificate",
    Step.UPDATE: "telling the ngrok API at %s the selectors, host name and version",
    Step.LOOK: "asking the ngrok API at %s what it has of this machine",
}

LEVELS = {step: logging.DEBUG if step is Step.LOOK else logging.INFO for step in Step}


def early(found: Answer) -> str:
    """Why something is missing or due as soon as it was granted."""
    return CLOCK if found is Answer.DUE else UNUSABLE


def granted(step: Step, operator_id: str, not_after: float) -> str:
    """`not_after` of the certificate in use; Unix seconds."""
    if step is Step.REGISTER:
        return f"registered as {operator_id}, with a certificate valid until {day(not_after)}"
    if step is Step.RENEW:
        return f"a new certificate is in use, valid until {day(not_after)}"
    if step is Step.UPDATE:
        return "ngrok knows the selectors, host name and version now"
    return f"ngrok has this machine as {operator_id}"
