"""What may be put into the main thread's mailbox."""

from __future__ import annotations

import enum
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Optional, Union


class JobKind(enum.Enum):
    """What a worker was asked to do."""

    ENROL = "registration"  # register, renew or update the operator
    POLL = "poll"  # fetch all bound endpoints
    RESOLVE = "resolve"  # the ingress's addresses
    LEAVE = "deregistration"  # delete the operator
    LOOK = "ingress"  # a handshake with the ingress: is it trusted?
    FETCH_CA = "ngrok's CA"  # the certificate of the authority that signs ngrok's ingress
    SHADOWS = "names elsewhere"  # what published names mean outside of this machine
    CHECK_KEY = "check key"  # a key given at run time, before it replaces a working one


@dataclass(frozen=True)
class JobDone:
    """A worker finished: `error` is set, or `result` is what the job returned."""

    kind: JobKind
    result: object = None
    error: Optional[BaseException] = None


@dataclass(frozen=True)
class SetApiKey:
    """A person gives an API key."""

    key: str = field(repr=False)
    reply: Future[Any]


@dataclass(frozen=True)
class Refresh:
    """Poll now; the reply comes when the poll has been applied."""

    reply: Future[Any]


@dataclass(frozen=True)
class Reload:
    """Read the configuration again (SIGHUP has nobody to reply to)."""

    reply: Optional[Future[Any]] = None


@dataclass(frozen=True)
class DumpStatus:
    """Write the status into the log."""


@dataclass(frozen=True)
class RotateCertificate:
    """Renew the certificate now."""

    reply: Future[Any]


@dataclass(frozen=True)
class Deregister:
    """Take this machine out of ngrok."""

    reply: Future[Any]


@dataclass(frozen=True)
class Trust:
    """Trust the ingress's CA certificate in `pem`, whose SHA-256 fingerprint is given."""

    pem: str
    sha256: str
    reply: Future[Any]


@dataclass(frozen=True)
class ApiAnswered:
    """One HTTP request to the API ended: its status, or "error"."""

    outcome: str


@dataclass(frozen=True)
class Stop:
    """End the daemon; the second one ends it at once."""

    reason: str


@dataclass(frozen=True)
class Drained:
    """The forwarding thread has no connection left."""


@dataclass(frozen=True)
class Crashed:
    """A thread died: half a daemon is worse than none."""

    thread: str
    error: BaseException


Message = Union[
    JobDone,
    SetApiKey,
    Refresh,
    Reload,
    DumpStatus,
    RotateCertificate,
    Deregister,
    Trust,
    ApiAnswered,
    Stop,
    Drained,
    Crashed,
]
