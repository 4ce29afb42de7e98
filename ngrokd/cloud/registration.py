"""The registration as a state machine: what an answer of ngrok changes, and what to ask next.

Theory of operation. `TRANSITIONS` is the whole of it: for each state and each answer the state that
follows. Some answers come from outside (the API, a person); the others are read off the record
itself, what is on disk about us: something is missing, due, outdated, or all is complete. A start,
a start after a crash and a running daemon so take the same way: a record in, a step out, whatever
came before. A crash forgets the state alone, and the record says it again.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from ngrokd.cloud.certificate import Validity

DAY_S = 86400.0
RENEW_BEFORE_S = 30 * DAY_S  # as ngrok's own operator does
# Of a life shorter than 90 days, the last third: 30 days before its end would be all of it.
RENEW_LAST_PART = 3


class RegistrationState(enum.Enum):
    """How we stand with ngrok; the values are words for a person."""

    UNREGISTERED = "unregistered"  # no API key: nothing is asked
    REGISTERING = "registering"  # no operator yet, or no usable key and certificate for it
    REGISTERED = "registered"  # operator, key and certificate are there
    RENEWING = "renewing"  # a new key and certificate are asked for; the old pair is in use
    LOST = "lost"  # ngrok no longer knows our operator: another one is asked for, with the same key
    REFUSED = "refused"  # what is asked is refused: a person has to act; asked again, but slowly
    LEFT = "left"  # a person took this machine out: nothing is asked until a key is set


class Answer(enum.Enum):
    """What happened; the values are the words of the diagram."""

    # From outside
    KEY = "an API key is set"
    NO_KEY = "the API key is gone"
    GRANTED = "ngrok grants what was asked"
    UNAVAILABLE = "no usable answer"
    REFUSED = "ngrok refuses (401, 403, plan)"
    GONE = "the operator is gone (404)"
    ROTATE = "rotate-cert"
    LEFT = "deregister"
    # Of the record itself
    MISSING = "operator, key or certificate missing"
    DUE = "certificate due"
    OUTDATED = "selectors, host name or version changed"
    UNSEEN = "operator not looked at for long"
    COMPLETE = "nothing to ask for"


class Step(enum.Enum):
    """What has to be asked of ngrok next."""

    REGISTER = "register"  # an operator and a certificate: the known one, else our own, else a new
    RENEW = "renew"  # a new key and a new certificate
    UPDATE = "update"  # tell it the profile
    LOOK = "look"  # what ngrok says of the operator: the ingress may be another one


@dataclass(frozen=True)
class Profile:
    """What ngrok is to know of this machine, and can be told at any time."""

    selectors: tuple[str, ...]
    host_name: str
    version: str  # of ngrokd


@dataclass(frozen=True)
class Record:
    """What is known about us: the state, and what is on disk."""

    state: RegistrationState = RegistrationState.UNREGISTERED
    operator_id: str = ""
    validity: Optional[Validity] = None  # of the certificate; None: no usable pair
    told: Optional[Profile] = None  # what this operator was last told; None: unknown
    wanted: Optional[Profile] = None  # what it is to be told
    seen: bool = False  # ngrok has said lately what the operator is


_S, _A = RegistrationState, Answer

# What is not listed leaves the state as it is.
TRANSITIONS: Mapping[RegistrationState, Mapping[Answer, RegistrationState]] = {
    _S.UNREGISTERED: {_A.KEY: _S.REGISTERING, _A.LEFT: _S.LEFT},
    _S.REGISTERING: {
        _A.COMPLETE: _S.REGISTERED,
        _A.UNSEEN: _S.REGISTERED,
        _A.OUTDATED: _S.REGISTERED,
        _A.DUE: _S.REGISTERED,
        _A.GRANTED: _S.REGISTERED,
        _A.GONE: _S.LOST,
        _A.REFUSED: _S.REFUSED,
        _A.NO_KEY: _S.UNREGISTERED,
        _A.LEFT: _S.LEFT,
    },
    _S.REGISTERED: {
        _A.MISSING: _S.REGISTERING,
        _A.DUE: _S.RENEWING,
        _A.ROTATE: _S.RENEWING,
        _A.GONE: _S.LOST,
        _A.REFUSED: _S.REFUSED,
        _A.NO_KEY: _S.UNREGISTERED,
        _A.LEFT: _S.LEFT,
    },
    _S.RENEWING: {
        _A.GRANTED: _S.REGISTERED,
        _A.MISSING: _S.REGISTERING,
        _A.GONE: _S.LOST,
        _A.REFUSED: _S.REFUSED,
        _A.NO_KEY: _S.UNREGISTERED,
        _A.LEFT: _S.LEFT,
    },
    _S.LOST: {
        _A.COMPLETE: _S.REGISTERED,
        _A.UNSEEN: _S.REGISTERED,
        _A.OUTDATED: _S.REGISTERED,
        _A.DUE: _S.REGISTERED,
        _A.GRANTED: _S.REGISTERED,
        _A.REFUSED: _S.REFUSED,
        _A.NO_KEY: _S.UNREGISTERED,
        _A.LEFT: _S.LEFT,
    },
    _S.REFUSED: {
        _A.GRANTED: _S.REGISTERED,
        _A.ROTATE: _S.RENEWING,
        _A.COMPLETE: _S.REGISTERED,
        _A.UNSEEN: _S.REGISTERED,
        _A.KEY: _S.REGISTERING,
        _A.GONE: _S.LOST,
        _A.NO_KEY: _S.UNREGISTERED,
        _A.LEFT: _S.LEFT,
    },
    _S.LEFT: {_A.KEY: _S.REGISTERING},
}

_SILENT = (_S.UNREGISTERED, _S.LEFT)  # nothing is asked

_STEPS: Mapping[Answer, Step] = {
    _A.MISSING: Step.REGISTER,
    _A.DUE: Step.RENEW,
    _A.OUTDATED: Step.UPDATE,
    _A.UNSEEN: Step.LOOK,
}


def next_step(
    record: Record, answer: Optional[Answer], now: float
) -> tuple[Record, Optional[Step]]:
    """The record after this answer, and what to ask ngrok next; None: nothing.

    `answer` None: only time has passed, or what is on disk changed. `now`: Unix seconds.
    """
    state = record.state
    if answer is not None:
        state = TRANSITIONS[state].get(answer, state)
    if answer is Answer.GONE:
        record = dataclasses.replace(record, operator_id="", told=None)
    found = judge(record, now)
    # What is on disk may lead on twice: registering, registered, renewing.
    for _ in RegistrationState:
        state = TRANSITIONS[state].get(found, state)
    return dataclasses.replace(record, state=state), _step(state, found)


def judge(record: Record, now: float) -> Answer:
    """What the record itself says, the most urgent first."""
    if not record.operator_id or record.validity is None:
        return Answer.MISSING
    if now >= renewal_time(record.validity):
        return Answer.DUE
    if record.told != record.wanted:
        return Answer.OUTDATED
    return Answer.COMPLETE if record.seen else Answer.UNSEEN


def renewal_time(validity: Validity) -> float:
    """From when on the certificate is to be renewed; Unix seconds."""
    life = validity.not_after - validity.not_before
    return validity.not_after - min(RENEW_BEFORE_S, max(life, 0) / RENEW_LAST_PART)


def diagram() -> str:
    """`TRANSITIONS` as a Mermaid state diagram, for the documents.

    What leads from every state that has a key to the same one is drawn once.
    """
    active = [state for state in TRANSITIONS if state not in _SILENT]
    shared = {
        answer: to
        for answer, to in TRANSITIONS[active[0]].items()
        if all(TRANSITIONS[state].get(answer) is to for state in active)
    }
    inner: list[str] = []
    for state in active:
        row = {answer: to for answer, to in TRANSITIONS[state].items() if answer not in shared}
        inner += _arrows(state.value, row)
    outer = [line for state in _SILENT for line in _arrows(state.value, TRANSITIONS[state])]
    lines = [
        "stateDiagram-v2",
        f"    [*] --> {RegistrationState.UNREGISTERED.value}",
        '    state "with an API key" as active {',
        *(f"    {line}" for line in inner),
        "    }",
        *outer,
        *_arrows("active", shared),
    ]
    return "\n".join(lines) + "\n"


def _arrows(start: str, row: Mapping[Answer, RegistrationState]) -> list[str]:
    found = []
    for target in RegistrationState:
        words = [answer.value for answer, to in row.items() if to is target]
        if words:
            found.append(f"    {start} --> {target.value}: {' / '.join(words)}")
    return found


def _step(state: RegistrationState, found: Answer) -> Optional[Step]:
    if state in _SILENT:
        return None
    if state is RegistrationState.RENEWING:  # also where nothing is due: a person asked
        return Step.RENEW
    return _STEPS.get(found)
