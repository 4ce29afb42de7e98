"""Faults that the sandbox plays on demand: what may be asked for, and whose turn it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar, Union

from ngrokd.model import Target
from ngrokd.sandbox.ca import EXPIRED, FALSIFICATIONS, SELF_SIGNED, WRONG_NAME
from ngrokd.sandbox.messages import Request

MAX_DELAY_S = 3600

API_KINDS = {
    "status": "answer with `status` (default 500) and an error body",
    "delay": "answer truly, `delay_s` later",
    "body": "answer with `body` as it stands",
    "html": "answer with a captive portal's HTML page (status 200 unless given)",
    "garbage": "answer with bytes that are not JSON",
    "empty": "answer with {}",
    "truncated": "announce the whole true answer, send half of it, close",
    "drop": "close the connection without an answer",
    "drip": "answer truly, the body a byte at a time, `delay_s` apart",
    "drip_head": "answer truly, everything a byte at a time, `delay_s` apart",
    "endless": "answer truly, but the body goes on with white space for ever",
    "redirect": "send the client to `location` (`status` 302 unless given)",
    "certificate": f"answer truly, but for the certificate: `identity` {', '.join(FALSIFICATIONS)}",
    "replace": "answer truly, but with `fields` replaced and without those of `omit`",
}
REDIRECTIONS = (301, 302, 303, 307, 308)
INGRESS_KINDS = {
    "refuse": "the port is closed (until the fault is cleared)",
    "hang": "nothing more is sent or read",
    "reset": "the connection is reset",
    "certificate": f"`identity`: {SELF_SIGNED}, {WRONG_NAME} or {EXPIRED}",
    "error": "the upgrade is answered with `error_code` and `error_message`",
    "slow": "the upgrade's answer comes a byte at a time, `delay_s` apart",
    "raw": "the upgrade is answered with these bytes (`hex`), then the connection is closed",
    "early_data": "the first payload (`data`, else the upstream's) shares the answer's TLS record",
    "notice": "the upgrade succeeds with `error_message` as a notice",
}
CONNECT_KINDS = ("refuse", "certificate")  # can be played only before the handshake
UPGRADE_KINDS = ("error", "slow", "raw", "early_data", "notice")  # only after the request


class FaultError(ValueError):
    """This fault cannot be asked for. `str()` says why."""


@dataclass(frozen=True)
class ApiFault:
    """What happens to API requests. `count`: how many, None: all until it is cleared."""

    kind: str
    count: Optional[int] = None
    method: str = ""  # "": any
    path: str = ""  # a part of the request's path
    status: int = 0  # 0: the kind's own
    error_code: str = ""
    message: str = ""
    delay_s: float = 0
    retry_after: str = ""
    body: str = ""
    content_type: str = ""
    location: str = ""
    identity: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)  # path, as `lies` has it: any value
    omit: Sequence[str] = ()  # paths

    def concerns(self, request: Request) -> bool:
        """The filter fits."""
        return self.path in request.path and self.method in ("", request.method)


@dataclass(frozen=True)
class IngressFault:
    """What happens to ingress connections. `at`: "connect" (before TLS) or "upgrade"."""

    kind: str
    count: Optional[int] = None
    at: str = ""
    host: str = ""  # "": any; needs `at` "upgrade": the host is not known before
    identity: str = ""
    error_code: str = ""
    error_message: str = ""
    delay_s: float = 0
    hex: str = ""
    data: str = ""

    def concerns(self, stage: str, target: Optional[Target]) -> bool:
        """The filter fits."""
        hostname = target.hostname if target else ""
        return self.at == stage and self.host in ("", hostname)


Fault = Union[ApiFault, IngressFault]
Kind = TypeVar("Kind", ApiFault, IngressFault)


def parse_api_fault(body: Mapping[str, Any]) -> ApiFault:
    """From the control API's JSON."""
    fault = _build(ApiFault, body, API_KINDS)
    if fault.status and not 200 <= fault.status <= 599:
        raise FaultError(f"status: {fault.status} is not an HTTP status from 200 to 599")
    for name in ("retry_after", "content_type", "location"):
        value = getattr(fault, name)
        if not (value.isascii() and value.isprintable()):
            raise FaultError(f"{name}: {value!r} cannot stand in an HTTP header")
    if fault.kind == "redirect" and not fault.location:
        raise FaultError("location: must be given")
    if fault.kind == "redirect" and fault.status not in (0, *REDIRECTIONS):
        raise FaultError(f"status: must be one of {', '.join(map(str, REDIRECTIONS))}")
    if fault.kind == "certificate" and fault.identity not in FALSIFICATIONS:
        raise FaultError(f"identity: must be one of {', '.join(FALSIFICATIONS)}")
    if fault.kind == "replace" and not (fault.fields or fault.omit):
        raise FaultError("fields: they or omit must be given")
    return fault


def parse_ingress_fault(body: Mapping[str, Any]) -> IngressFault:
    """From the control API's JSON; `at` is filled in."""
    fault = _build(IngressFault, body, INGRESS_KINDS)
    at = fault.at or ("connect" if fault.kind in CONNECT_KINDS else "upgrade")
    wrong = UPGRADE_KINDS if at == "connect" else CONNECT_KINDS
    if at not in ("connect", "upgrade") or fault.kind in wrong:
        raise FaultError(f"at: {fault.kind!r} cannot happen at {at!r}")
    if fault.host and at == "connect":
        raise FaultError('host: it is known only at "upgrade"')
    if fault.kind == "certificate" and fault.identity not in (SELF_SIGNED, WRONG_NAME, EXPIRED):
        raise FaultError(f"identity: must be {SELF_SIGNED}, {WRONG_NAME} or {EXPIRED}")
    if fault.kind == "refuse" and fault.count is not None:
        raise FaultError("count: a closed port cannot count who did not get in")
    if fault.kind == "error" and not (fault.error_code or fault.error_message):
        raise FaultError("error_code: it or error_message must be given")
    try:
        bytes.fromhex(fault.hex)
    except ValueError as exc:
        raise FaultError(f"hex: {exc}") from exc
    return dataclasses.replace(fault, at=at)


def _build(kind: type[Kind], body: Mapping[str, Any], kinds: Mapping[str, str]) -> Kind:
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, value in body.items():
        if name not in types:
            raise FaultError(f"{name}: is unknown; the fields are {', '.join(types)}")
        if not _fits(value, str(types[name])):
            raise FaultError(f"{name}: {value!r} is not of the type {types[name]}")
    if body.get("kind") not in kinds:
        raise FaultError(f"kind: {body.get('kind')!r} is not one of {', '.join(kinds)}")
    if body.get("count") is not None and body["count"] < 1:
        raise FaultError("count: must be at least 1, or left out for all")
    if not 0 <= body.get("delay_s", 0) <= MAX_DELAY_S:
        raise FaultError(f"delay_s: must be from 0 to {MAX_DELAY_S}")
    return kind(**body)


def _fits(value: object, type_name: str) -> bool:
    if isinstance(value, bool):
        return False
    if value is None:
        return type_name.startswith("Optional")
    if type_name.startswith("Mapping"):
        return isinstance(value, Mapping)
    if type_name.startswith("Sequence"):
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if "int" in type_name:
        return isinstance(value, int)
    return isinstance(value, (int, float)) if type_name == "float" else isinstance(value, str)


class FaultBoard:
    """The faults in force, oldest first, each with what is left of its count. Owner: the clerk."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._numbered = 0

    def add(self, fault: Fault) -> str:
        """Its id."""
        self._numbered += 1
        identifier = f"fault_{self._numbered}"
        self._faults[identifier] = fault
        return identifier

    def remove(self, identifier: str) -> bool:
        """Whether there was one."""
        return self._faults.pop(identifier, None) is not None

    def clear(self) -> None:
        """Everything works again."""
        self._faults.clear()

    def to_json(self) -> list[dict[str, object]]:
        """Every fault with its id and what it concerns."""
        return [
            {
                "id": identifier,
                "on": "api" if isinstance(fault, ApiFault) else "ingress",
                **dataclasses.asdict(fault),
            }
            for identifier, fault in self._faults.items()
        ]

    def refusing(self) -> bool:
        """The ingress's port is to be closed."""
        return any(
            isinstance(fault, IngressFault) and fault.kind == "refuse"
            for fault in self._faults.values()
        )

    def take_api(self, request: Request) -> Optional[ApiFault]:
        """The oldest fault for this request, whose count it uses up."""
        for identifier, fault in self._faults.items():
            if isinstance(fault, ApiFault) and fault.concerns(request):
                self._use(identifier, fault)
                return fault
        return None

    def take_ingress(self, stage: str, target: Optional[Target]) -> Optional[IngressFault]:
        """The oldest fault for this connection at this stage, whose count it uses up."""
        for identifier, fault in self._faults.items():
            if isinstance(fault, IngressFault) and fault.concerns(stage, target):
                self._use(identifier, fault)
                return fault
        return None

    def _use(self, identifier: str, fault: Fault) -> None:
        if fault.count is None:
            return
        if fault.count == 1:
            del self._faults[identifier]
        else:
            self._faults[identifier] = dataclasses.replace(fault, count=fault.count - 1)
